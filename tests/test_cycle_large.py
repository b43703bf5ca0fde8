"""The foremost cycles of large classes: short ones among very many paths, long ones, and what is said of a bound."""

from math import fsum, inf, log

import networkx as nx
import numpy as np
import pytest
from scipy import sparse
from scipy.sparse import csgraph

from flowstat.analyze import cycle_delay, cycle_meet, cycle_roots, cycle_search
from flowstat.analyze.circulation import circulation
from flowstat.analyze.cycle_found import Found
from flowstat.analyze.cycle_meet import Arrows, Met, meet
from flowstat.analyze.cycle_roots import Roots, Single, feedback
from flowstat.analyze.cycle_search import lightest
from flowstat.analyze.cycles import cycles, iter_cycles
from flowstat.estimate.chain import Chain
from tests.benchmarks.made_chains import giant
from tests.oracles import chain_of, rotated


def numbered(n):
    return [f"{i:06}" for i in range(n)]


def weighted(P):
    P = sparse.coo_array(P)
    order = np.lexsort([P.col, P.row])
    return P.row[order].astype(np.int64), P.col[order].astype(np.int64), np.maximum(-np.log(P.data[order]), 0.0)


def csr(n, arrows):
    rows, columns, weights = arrows
    return np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n))]), columns, weights


def weigh(arrows, path):
    table = {(i, j): w for i, j, w in zip(*(a.tolist() for a in arrows), strict=True)}
    return fsum(table[i, j] for i, j in zip(path, (*path[1:], path[0]), strict=True))


def plain(n, arrows, level, longest=None):
    """All cycles of up to a weight, by plain search in depth from each first node."""
    out = [[] for _ in range(n)]
    for i, j, w in zip(*(a.tolist() for a in arrows), strict=True):
        out[i].append((j, w))
    found = []
    for root in range(n):
        stack = [((root,), 0.0)]
        while stack:
            path, cost = stack.pop()
            for j, w in out[path[-1]]:
                if cost + w > level:
                    continue
                if j == root:
                    found.append((cost + w, path))
                elif j > root and j not in path and len(path) < (longest or n):
                    stack.append(((*path, j), cost + w))
    return sorted(found)


def sparse_graph(rng, n, degree, weights):
    """A strongly connected graph: a ring in any order, and arrows to anywhere."""
    ring = rng.permutation(n)
    rows = np.concatenate([ring, np.repeat(np.arange(n), degree)])
    columns = np.concatenate([np.roll(ring, -1), rng.integers(0, n, n * degree)])
    key = np.unique((rows * n + columns)[rows != columns])
    return key // n, key % n, rng.choice(weights, len(key))


def layered(layers, width, degree, seed):
    """Each layer leads to the next, the last one to the first: all cycles are long."""
    rng = np.random.default_rng(seed)
    n = layers * width
    rows = np.repeat(np.arange(n), degree)
    columns = (rows // width + 1) % layers * width + rng.integers(0, width, len(rows))
    P = sparse.csr_array((rng.random(len(rows)) + 0.01, (rows, columns)), shape=(n, n))
    P.sum_duplicates()
    return sparse.csr_array(P / np.asarray(P.sum(axis=1)).ravel()[:, None] * 0.999)


def torus(k):
    """From each place one step on or one step down, evenly: all cycles are as long as a side, or longer."""
    i = np.arange(k * k)
    x, y = i // k, i % k
    columns = np.concatenate([(x + 1) % k * k + y, x * k + (y + 1) % k])
    return sparse.csr_array((np.full(2 * k * k, 0.495), (np.concatenate([i, i]), columns)), shape=(k * k, k * k))


def test_100_cycles_of_a_class_of_10_000_nodes_are_those_of_a_plain_search():
    """It once listed 7, and one of .0445 before one of .0536."""
    P, _ = giant(10_000)
    arrows = weighted(P)
    found = lightest(numbered(10_000), arrows, 100)
    assert (len(found.paths), found.more, found.complete, found.sure) == (100, True, True, 100)
    level = weigh(arrows, found.paths[-1])
    every = plain(10_000, arrows, level + 1e-9)
    assert set(found.paths) <= {path for _, path in every}
    assert [weigh(arrows, path) for path in found.paths] == pytest.approx([w for w, _ in every[:100]], rel=1e-12)


@pytest.mark.parametrize("few", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_halves_that_meet_are_all_cycles_up_to_a_weight(monkeypatch, few, seed):
    if few:
        monkeypatch.setattr(cycle_meet, "CELLS", 1)
    rng = np.random.default_rng(seed)
    for _ in range(12):
        n = int(rng.integers(2, 40))
        arrows = sparse_graph(rng, n, int(rng.integers(1, 3)), [0.0, 0.5, 1.0, 0.7, 3.0])
        longest = int(rng.integers(2, n + 1)) if rng.random() < 0.5 else n
        level = float(rng.choice([0.0, 1.0, 2.2, 4.0]))
        roots = np.arange(n) if rng.random() < 0.7 else np.unique(rng.integers(0, n, 3))
        met = meet(Arrows.of(csr(n, arrows)), roots, level + 1e-9, longest, 10**7)
        assert isinstance(met, Met)
        found = [(w, tuple(p)) for ws, ps in met.cycles for w, p in zip(ws.tolist(), ps.tolist(), strict=True)]
        every = [c for c in plain(n, arrows, level + 1e-9, longest) if c[1][0] in roots]
        assert sorted(path for _, path in found) == sorted(path for _, path in every)
        assert sorted(w for w, _ in found) == pytest.approx([w for w, _ in every])
        # What was left out weighs no less than it says.
        beyond = [w for w, path in plain(n, arrows, level + 1.5, longest) if w > level + 1e-9 and path[0] in roots]
        assert met.beyond > level
        assert met.beyond <= min(beyond, default=inf) + 1e-9
    assert isinstance(meet(Arrows.of(csr(n, arrows)), np.arange(n), 4.0, n, 3), int)


def by_yen(arrows, n, roots, top):
    """The lightest cycles through some nodes, by scipy's k shortest simple paths from each to itself."""
    found = []
    W = sparse.coo_array((arrows[2], arrows[:2]), shape=(n, n))
    left = np.ones(n, bool)
    for root in roots:
        inside = left[W.row] & left[W.col]
        rows, columns, weights = W.row[inside], W.col[inside], W.data[inside]
        ends = np.where(columns == root, n, columns).astype(np.int32)
        split = sparse.csr_array((weights, (rows.astype(np.int32), ends)), shape=(n + 1, n + 1))
        paths = csgraph.yen(split, root, n, top)
        found += [w for w in np.atleast_1d(paths).tolist() if w < inf]
        left[root] = False
    return sorted(found)[:top]


def test_long_cycles_are_those_of_shortest_simple_paths():
    P = layered(30, 10, 3, 1)
    arrows = weighted(P)
    found = lightest(numbered(300), arrows, 25)
    assert (found.complete, found.sure) == (True, 25)
    expected = by_yen(arrows, 300, range(10), 25)
    assert [weigh(arrows, path) for path in found.paths] == pytest.approx(expected, rel=1e-12)
    assert len(set(found.paths)) == 25


@pytest.mark.parametrize("way", ["as it is", "no work"])
def test_a_class_with_long_cycles_only(monkeypatch, way):
    """There once was none found within the search's bound, from 2,500 nodes on."""
    if way == "no work":
        monkeypatch.setattr(cycle_search, "WORK", (0, 0))
    P = layered(30, 100, 4, 2)
    arrows = weighted(P)
    found = lightest(numbered(3000), arrows, 20)
    assert (len(found.paths), found.complete, found.sure) == (20, True, 20)
    W = sparse.csr_array((arrows[2], arrows[:2]), shape=(3000, 3000))
    ways = csgraph.dijkstra(sparse.csr_array(W.T), indices=np.arange(100))
    through = (W[:100].toarray() + np.where(W[:100].toarray() > 0, ways, inf)).copy()
    least = np.where(W[:100].toarray() > 0, through, inf).min()
    assert weigh(arrows, found.paths[0]) == pytest.approx(least, rel=1e-12)
    assert {len(path) for path in found.paths} == {30}


def test_a_torus_and_its_equals():
    k = 50
    arrows = weighted(torus(k))
    names = numbered(k * k)
    straight = [tuple(x * k + y for y in range(k)) for x in range(k)]
    straight += [tuple(x * k + y for x in range(k)) for y in range(k)]
    straight.sort(key=lambda path: rotated([names[i] for i in path]))
    found = lightest(names, arrows, 20)
    assert found.paths == straight[:20]
    assert (found.complete, found.more) == (True, True)
    assert found.sure == 20
    # The next ones are as long as two sides, and far too many as heavy: said is what is right.
    most = lightest(names, arrows, 110)
    assert most.paths[:100] == straight
    assert (len(most.paths), most.complete, most.sure) == (110, False, 100)
    assert {len(path) for path in most.paths[100:]} == {2 * k}
    assert 50 * log(1 / 0.495) < most.level < 100 * log(1 / 0.495)
    chain = Chain.from_matrix(torus(k), names, names[0], stop=np.full(k * k, 0.01))
    listed = list(iter_cycles(chain, flux=False, top=110))
    assert [c.probability for c in listed] == pytest.approx([0.495**50] * 100 + [0.495**100] * 10, rel=1e-9)


def test_one_long_ring():
    n = 6_000
    P = sparse.csr_array((np.full(n, 0.5), (np.arange(n), (np.arange(n) + 1) % n)), shape=(n, n))
    found = lightest(numbered(n), weighted(P), 5)
    assert (found.paths, found.more, found.complete) == ([tuple(range(n))], False, True)
    through = lightest(numbered(n), weighted(P), 5, through=77)
    assert through.paths == found.paths
    assert lightest(numbered(n), weighted(P), 5, max_length=n - 1).paths == []


def test_equal_products_of_many_shares_are_equals():
    """Two ways of 2,500 nodes have the same shares in another order: their sums of logarithms differ."""
    rng = np.random.default_rng(3)
    m = 2500
    shares = np.exp(-rng.exponential(1.0, m + 1)) * 0.45
    names = ["s", *(f"z{k:05}" for k in range(m)), *(f"a{k:05}" for k in range(m))]
    own = [shares, rng.permutation(shares)]
    # The first step is alike, lest the chance to take it decides.
    own[1] = np.concatenate([shares[:1], rng.permutation(shares[1:])])
    rows, columns, data = [], [], []
    for which in (0, 1):
        path = [0, *range(1 + which * m, 1 + (which + 1) * m), 0]
        rows += path[:-1]
        columns += path[1:]
        data += own[which].tolist()
    arrows = weighted(sparse.csr_array((data, (rows, columns)), shape=(2 * m + 1, 2 * m + 1)))
    assert np.cumsum(-np.log(own[0]))[-1] != np.cumsum(-np.log(own[1]))[-1]
    found = lightest(names, arrows, 2)
    assert [names[path[1]] for path in found.paths] == ["a00000", "z00000"]
    assert found.sure == 2


@pytest.mark.parametrize("narrow", [0, 10**9])
@pytest.mark.parametrize("seed", range(5))
def test_roots_leave_no_cycle_and_know_the_least_weights(monkeypatch, narrow, seed):
    monkeypatch.setattr(cycle_roots, "NARROW", narrow)
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 120))
    arrows = sparse_graph(rng, n, int(rng.integers(1, 3)), [0.0, 0.5, 1.0, 0.7, 3.0])
    graph = csr(n, arrows)
    nodes = feedback(graph, n)
    whole = nx.DiGraph()
    whole.add_weighted_edges_from(zip(*(a.tolist() for a in arrows), strict=True))
    roots = Roots(graph, nodes)
    forth, back = roots.ways(np.arange(len(nodes)))
    for r, node in enumerate(nodes.tolist()):
        there = dict(nx.single_source_dijkstra_path_length(whole, node))
        here = dict(nx.single_source_dijkstra_path_length(whole.reverse(), node))
        for i in whole.nodes:
            assert forth[i, r] == pytest.approx(there.get(i, inf))
            assert back[i, r] == pytest.approx(here.get(i, inf))
        least = min((d["weight"] + here.get(j, inf) for j, d in whole[node].items()), default=inf)
        assert roots.least[r] == pytest.approx(least)
        if r == 0:
            one = Single(graph, node)
            assert one.least == pytest.approx([least])
            assert np.allclose(np.hstack(one.ways(np.array([0]))), np.stack([forth[:, 0], back[:, 0]], axis=1))
        whole.remove_node(node)
    assert nx.is_directed_acyclic_graph(whole)
    assert feedback(graph, len(nodes) - 1) is None


@pytest.mark.parametrize("seed", range(4))
def test_what_is_said_to_be_right_is_right_wherever_the_search_stops(monkeypatch, seed):
    rng = np.random.default_rng(seed)
    stopped = 0
    for _ in range(60):
        n = int(rng.integers(3, 30))
        arrows = sparse_graph(rng, n, 1, [0.0, 0.5, 1.0, 0.7, 3.0])
        top = int(rng.integers(1, 12))
        work = int(rng.integers(0, 300))
        monkeypatch.setattr(cycle_search, "FLOYD", 0)
        monkeypatch.setattr("flowstat.analyze.cycle_ways.FLOYD", int(rng.choice([0, 256])))
        monkeypatch.setattr(cycle_search, "WORK", (work, 0))
        monkeypatch.setattr(cycle_search, "MORE", (work, 0))
        monkeypatch.setattr(cycle_search, "ROOTS", (int(rng.integers(0, 6)), int(rng.integers(0, 6))))
        monkeypatch.setattr(cycle_delay, "BUDGET", int(rng.choice([20, 60, 10**6])))
        monkeypatch.setattr(cycle_delay, "TIES", int(rng.choice([0, 2, 1000])))
        found = lightest(numbered(n), arrows, top)
        every = sorted((round(w, 9), len(path), path) for w, path in plain(n, arrows, inf))
        assert found.paths
        assert set(found.paths) <= {path for *_, path in every}
        assert len(set(found.paths)) == len(found.paths) <= top
        assert found.paths[: found.sure] == [path for *_, path in every[: found.sure]]
        weights = [round(weigh(arrows, path), 9) for path in found.paths]
        assert weights == sorted(weights)
        missing = [w for w, _, path in every if path not in found.paths]
        if found.complete:
            assert found.paths == [path for *_, path in every[:top]]
            assert found.more == (len(every) > top)
        else:
            stopped += 1
            assert found.more
            assert min(missing, default=inf) > found.level - 1e-9 or len(found.paths) == top
    assert stopped


def test_what_is_said_where_the_search_stops(monkeypatch):
    P = layered(12, 8, 3, 5)
    chain = Chain.from_matrix(P, start="0", stop=np.full(96, 0.001))
    whole = cycles(chain, 8)
    assert "none before these" in str(whole)
    assert (whole.sure, whole.unlisted) == (8, None)
    monkeypatch.setattr(cycle_delay, "BUDGET", 40)
    monkeypatch.setattr(cycle_search, "WORK", (0, 0))
    few = cycles(chain, 8)
    assert not few.complete
    assert "none before these" not in str(few)
    assert 0 < few.sure < 8
    assert [c.nodes for c in few.cycles[: few.sure]] == [c.nodes for c in whole.cycles[: few.sure]]
    assert "The search stopped at its bound: what is listed is right, but it may not be all." in str(few)
    assert few.cycles[few.sure - 1].probability >= few.unlisted * (1 - 1e-6)
    # What was found but may not be next is told from what is right.
    monkeypatch.setattr(cycle_delay, "BUDGET", 10**6)
    monkeypatch.setattr(cycle_delay, "TIES", 0)
    even = Chain.from_matrix(torus(5), start="0", stop=np.full(25, 0.01))
    told = cycles(even, 12)
    assert (told.sure, told.complete) == (10, False)
    assert "the first 10 are right, after that others may be missing" in str(told)
    for work in ("WORK", "MORE", "ROOTS"):
        monkeypatch.setattr(cycle_search, work, (0, 0))
    monkeypatch.setattr(cycle_delay, "BUDGET", 100)
    last = cycles(chain, 8)
    assert last.cycles
    assert (last.sure, last.unlisted) == (0, None)
    assert "others may belong before or between these" in str(last)
    monkeypatch.setattr(cycle_delay, "BUDGET", -1)
    none = cycles(chain, 8)
    assert "found no cycle" in str(none)
    monkeypatch.undo()
    assert cycles(chain, 8, through=whole.cycles[0].nodes[0]).complete


def test_cycles_that_are_too_heavy_are_let_go(monkeypatch):
    monkeypatch.setattr("flowstat.analyze.cycle_found.HELD", 6)
    arrows = np.array([0, 1, 2, 3]), np.array([0, 1, 2, 3]), np.array([1.0, 2.0, 3.0, 4.0])
    found = Found(4, arrows, 1, 4)
    for weight in (4.0, 3.0, 2.0, 1.0):
        found.keep(np.array([weight, weight]), np.array([[int(weight) - 1], [int(weight) - 1]]))
    assert sum(map(len, found.costs)) < 8
    assert found.ranked(["a", "b", "c", "d"])[0] == (0,)


def test_keys_are_empty_where_there_are_none():
    chain = chain_of({"a": {"b": 0.5}, "b": {"a": 0.5}}, "a")
    [row] = cycles(chain).rows()
    assert row["keys"] == []
    assert "," not in str(cycles(chain)).splitlines()[2]


def test_one_cycle_is_told_as_one():
    found = circulation(chain_of({"a": {"b": 1.0}, "b": {"a": 1.0}}, "a"))
    assert "Listed is the only cycle: 100% of the events" in str(found)
