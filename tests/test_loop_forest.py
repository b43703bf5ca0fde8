import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from flowstat.analyze import loop_forest as module
from flowstat.analyze.loop_forest import loop_forest


def matrix(n, arrows):
    rows = [i for i, _ in arrows]
    P = sparse.csr_array((np.ones(len(arrows)), (rows, [j for _, j in arrows])), shape=(n, n))
    P.sum_duplicates()
    return P


def preorder(n, arrows, roots):
    """Number the nodes as one search in depth comes to them."""
    onward = {i: sorted(j for source, j in arrows if source == i) for i in range(n)}
    led_to = {j for i, j in arrows if i != j}
    number = {}

    def visit(i):
        if i not in number:
            number[i] = len(number)
            for j in onward[i]:
                visit(j)

    for root in [*roots, *(i for i in range(n) if i not in led_to), *range(n)]:
        visit(root)
    return number


def by_definition(n, arrows, roots):
    """Take strongly connected parts without their first nodes, again and again."""
    graph = nx.DiGraph(arrows)
    graph.add_nodes_from(range(n))
    number = preorder(n, arrows, roots)
    header = [-1] * n
    irreducible = set()
    work = [set(graph)]
    while work:
        nodes = work.pop()
        for part in nx.strongly_connected_components(graph.subgraph(nodes)):
            if len(part) > 1:
                h = min(part, key=number.__getitem__)
                for i in part - {h}:
                    header[i] = h
                entered = {j for i, j in arrows if i not in part and j in part} | (part & set(roots))
                if entered - {h}:
                    irreducible.add(h)
                work.append(part - {h})
    return header, irreducible


graphs = st.integers(1, 9).flatmap(
    lambda n: st.tuples(
        st.just(n),
        st.sets(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=3 * n).map(sorted),
        st.lists(st.integers(0, n - 1), max_size=2, unique=True),
    )
)


def check(n, arrows, roots):
    forest = loop_forest(matrix(n, arrows), np.array(roots, np.int64))
    header, irreducible = by_definition(n, arrows, roots)
    assert forest.header.tolist() == header
    assert set(np.flatnonzero(forest.irreducible).tolist()) == irreducible
    assert set(np.flatnonzero(forest.heads).tolist()) == set(header) - {-1}
    assert set(np.flatnonzero(forest.selfish).tolist()) == {i for i, j in arrows if i == j}
    assert sorted(forest.order.tolist()) == list(range(n))
    for h in range(n):
        within = {h}
        for _ in range(n):
            within |= {i for i in range(n) if header[i] in within}
        assert set(forest.members(h).tolist()) == within
        assert forest.members(h)[0] == h
        assert set(forest.nested(h).tolist()) == {i for i in range(n) if header[i] == h and i in header}


@settings(max_examples=400)
@given(graphs)
def test_loops_are_as_defined(drawn):
    check(*drawn)


@pytest.mark.parametrize("seed", range(6))
def test_compiled_code_finds_the_same(monkeypatch, seed):
    rng = np.random.default_rng(seed)
    n = 60
    arrows = sorted({(int(i), int(j)) for i, j in rng.integers(0, n, (100 + 20 * seed, 2))})
    check(n, arrows, [3, 7])
    plain = loop_forest(matrix(n, arrows))
    monkeypatch.setattr(module, "COMPILED", 0)
    check(n, arrows, [3, 7])
    other = loop_forest(matrix(n, arrows))
    assert all((getattr(plain, f) == getattr(other, f)).all() for f in ("header", "irreducible", "order"))


def test_without_numba_it_works_the_same(monkeypatch):
    monkeypatch.setattr(module, "COMPILED", 0)
    monkeypatch.setattr(module, "_kernel", lambda: None)
    check(4, [(0, 1), (1, 2), (2, 1), (2, 0), (3, 3)], [0])


def test_an_irreducible_loop_has_the_entry_that_is_first():
    arrows = [(0, 1), (0, 2), (1, 2), (2, 1)]
    forest = loop_forest(matrix(3, arrows), np.array([0]))
    assert forest.header.tolist() == [-1, -1, 1]
    assert forest.irreducible.tolist() == [False, True, False]


def test_deep_nests_and_long_rings_take_no_recursion():
    """A line with a way back from every node to the first, and to the one before: 3,000 nested loops."""
    n = 3000
    arrows = [(i, i + 1) for i in range(n - 1)] + [(i + 1, i) for i in range(n - 1)]
    forest = loop_forest(matrix(n, arrows), np.array([0]))
    assert forest.header.tolist() == [-1, *range(n - 1)]
    assert not forest.irreducible.any()
    ring = loop_forest(matrix(n, [(i, (i + 1) % n) for i in range(n)]))
    assert ring.size[0] == n


def test_nothing_at_all():
    forest = loop_forest(sparse.csr_array((2, 2)))
    assert forest.header.tolist() == [-1, -1]
    assert not forest.heads.any()
