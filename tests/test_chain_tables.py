import networkx as nx
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from scipy import sparse

from flowstat.analyze.absorption import absorption
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
    with pytest.raises(ChainError, match="the same as text: 1 and '1'"):
        chain_from_networkx(nx.DiGraph([(1, "1")]))
    with pytest.raises(ChainError, match="without a name"):
        chain_from_networkx(nx.DiGraph([(1, np.nan)]))
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


def arrows(*rows):
    return pd.DataFrame(rows, columns=["source", "target", "share"])


def test_numbers_that_pandas_makes_floats_are_the_same_nodes():
    """A row without a source makes floats of the others."""
    frame = arrows([None, 1, 1.0], [1, 2, 1.0], [2, 1, 0.5], [2, END, 0.5])
    assert frame.source.dtype == np.float64
    chain = chain_from_frame(frame)
    assert (chain.names, chain.stop.tolist(), chain.start.tolist()) == (("1", "2"), [0, 0.5], [1, 0])
    assert absorption(chain).events == pytest.approx(4)
    closed = chain_from_frame(pd.DataFrame({"source": [np.nan, 1, 2], "target": [1, 2, 1], "share": [1.0, 1, 1]}))
    assert closed.names == ("1", "2")
    assert not closed.stop.any()
    assert chain_from_frame(arrows([1.5, END, 1])).names == ("1.5",)
    wide = pd.DataFrame([[0.0, 1.0], [1.0, 0.0]], index=[1.0, 2.0], columns=["1", "2"])
    assert chain_from_frame(wide).names == ("1", "2")
    graph = nx.DiGraph()
    graph.add_edge(1.0, 2, share=1)
    assert chain_from_networkx(graph).names == ("1", "2")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([["a", None, 0.5], ["a", "b", 0.5]], r"row 1 has no target: name a node, or \(end\)"),
        ([["a", "b", 1], ["a", np.nan, 1]], "row 2 has no target"),
        ([["a", pd.NA, 1]], "row 1 has no target"),
        ([[1, "1", 1.0], ["1", 1, 1.0]], "the same as text: 1 and '1'"),
        ([[7, 8, 1.0], ["007", 8, 1.0]], "7, a number, and another is '007', a text"),
        ([[1.0, "1.0", 1.0]], "1.0, a number, and another is '1.0', a text"),
        ([[2.0**53, 1.0, 1.0]], "may be several numbers"),
    ],
)
def test_nodes_that_might_be_others_are_refused(rows, said):
    with pytest.raises(ChainError, match=said):
        chain_from_frame(arrows(*rows))


def test_numbers_read_as_texts_on_one_side_are_refused(tmp_path):
    """Of a CSV file pandas reads the column without `(end)` as numbers, and that with it as texts."""
    arrows(["07", "08", 1.0], ["08", END, 1.0]).to_csv(tmp_path / "c.csv", index=False)
    with pytest.raises(ChainError, match="dtype=str"):
        chain_from_frame(pd.read_csv(tmp_path / "c.csv"))
    assert chain_from_frame(pd.read_csv(tmp_path / "c.csv", dtype={"source": str})).names == ("07", "08")


def test_names_that_can_not_be_encoded_are_in_a_frame_all_the_same():
    chain = Chain.from_matrix([[0, 1], [0, 0]], ["a\ud800", "b"], stop=[0, 1])
    frame = chain_frame(chain)
    assert frame.target.tolist() == ["a\ud800", "b", END]
    same(chain, chain_from_frame(frame))
