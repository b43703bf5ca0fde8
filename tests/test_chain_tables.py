import networkx as nx
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from scipy import sparse

from flowstat.errors import ChainError
from flowstat.estimate.chain import END, Chain
from flowstat.estimate.chain_tables import chain_frame, chain_from_frame, chain_from_networkx
from tests.oracles import chains, pit, shop
from tests.test_chain_files import same


@given(chains(traps=True))
def test_frames_and_graphs_give_the_chain_back(chain):
    same(chain, chain_from_frame(chain_frame(chain)))
    same(chain, chain_from_networkx(chain.to_networkx()))


def test_a_frame_is_the_same_after_csv(tmp_path):
    chain_frame(shop()).to_csv(tmp_path / "c.csv", index=False)
    chain = chain_from_frame(pd.read_csv(tmp_path / "c.csv"))
    assert chain.names == shop().names
    assert abs(chain.P - shop().P).max() < 1e-15
    assert chain.start.tolist() == shop().start.tolist()


def test_square_tables():
    names, matrix = pit().closed()
    wide = pd.DataFrame(matrix.toarray()[:-1], index=list(names[:-1]), columns=list(names))
    chain = chain_from_frame(wide)
    assert (chain.P != pit().P).nnz == 0
    assert (chain.stop == pit().stop).all()
    shuffled = chain_from_frame(wide[[END, *sorted(names[:-1])]])
    assert (shuffled.P != pit().P).nnz == 0
    assert chain_from_frame(pd.DataFrame([[0, 1], [0.5, 0.5]])).names == ("0", "1")


def test_matrices_of_numpy_scipy_and_pandas_are_taken():
    P = [[0, 1.0], [0.5, 0.5]]
    made = (np.array(P), sparse.coo_array(P), sparse.csc_matrix(P), sparse.lil_array(P), pd.DataFrame(P))
    for matrix in made:
        assert Chain.from_matrix(matrix).P.toarray().tolist() == P


def test_targets_alone_are_where_runs_stop_and_rows_add_up():
    table = pd.DataFrame({"from": ["a", "a", "a"], "to": ["b", "b", "a"], "p": [0.25, 0.25, 0.5]})
    chain = chain_from_frame(table, source="from", target="to", share="p")
    assert chain.P.toarray().tolist() == [[0.5, 0.5], [0, 0]]
    assert chain.stop.tolist() == [0, 1]


def test_graphs_of_others():
    graph = nx.MultiDiGraph()
    graph.add_edge(1, 2, weight=0.25)
    graph.add_edge(1, 2, weight=0.25)
    graph.add_edge(1, END, weight=0.5)
    graph.add_edge(END, END, weight=1)
    chain = chain_from_networkx(graph, share="weight")
    assert chain.names == ("1", "2")
    assert chain.stop.tolist() == [0.5, 1]
    assert chain.P.toarray().tolist() == [[0, 0.5], [0, 0]]


def test_refusals():
    with pytest.raises(ChainError, match="this one is not"):
        chain_from_networkx(nx.Graph([(1, 2)]))
    with pytest.raises(ChainError, match="1 -> 2 has no attribute 'share'"):
        chain_from_networkx(nx.DiGraph([(1, 2)]))
    with pytest.raises(ChainError, match="the same name"):
        chain_from_networkx(nx.DiGraph([(1, "1")]))
    with pytest.raises(ChainError, match=r"sums to 0\.5"):
        chain_from_frame(pd.DataFrame({"source": ["a"], "target": ["a"], "share": [0.5]}))
    with pytest.raises(ChainError, match="a -> b is no number: 'x'"):
        chain_from_frame(pd.DataFrame({"source": ["a"], "target": ["b"], "share": ["x"]}))
    with pytest.raises(ChainError, match="a chain is a table with the columns"):
        chain_from_frame(pd.DataFrame({"a": [1]}))
    with pytest.raises(ChainError, match="not one of numbers"):
        chain_from_frame(pd.DataFrame([["x"]], index=["a"], columns=["a"]))
    with pytest.raises(ChainError, match="where runs stop"):
        chain_from_frame(pd.DataFrame({"source": [END], "target": ["a"], "share": [1]}))
    with pytest.raises(ChainError, match="at least one node"):
        chain_from_frame(pd.DataFrame({"source": [], "target": [], "share": []}))
    with pytest.raises(ChainError, match="at least one node"):
        chain_from_networkx(nx.DiGraph())
