"""The cycles that runs go round most: held against full enumerations, by every way of searching."""

from contextlib import contextmanager
from math import inf, log, prod

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from flowstat.analyze import cycle_columns, cycle_flux, flux_bounds, flux_exact, flux_paths, flux_search, near_visits
from flowstat.analyze.column_steps import Steps
from flowstat.analyze.cycle_flux import Fluxes
from flowstat.analyze.cycles import cycles
from flowstat.analyze.solve import Solver
from flowstat.analyze.way_back import backs
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import Chain
from tests.oracles import chain_of, chains, pit, relabelled, rotated, shop

NEVER = {(flux_search, "WORK"): -(10**9), (flux_search, "PER_ARROW"): 0}

WAYS = {
    "as it is": {},
    "large classes": {(flux_bounds, "DENSE"): 0, (near_visits, "MOST"): 6},
    "nothing known": {(flux_bounds, "DENSE"): 0, (flux_bounds, "near_visits"): lambda block, *_: vague(block)},
    "few together": {(flux_paths, "CELLS"): 4, (flux_paths, "CHUNK"): 1, (flux_paths, "EXACT"): 1},
    "by columns": {(cycle_flux, "DENSE"): 0, (cycle_columns, "CELLS"): 1},
    "exact chances": NEVER,
}


def vague(block):
    return near_visits.Near(np.full(block.shape[0], inf), np.zeros(block.nnz), np.zeros(block.nnz))


@contextmanager
def patched(way):
    with pytest.MonkeyPatch.context() as patch:
        for (module, name), value in WAYS[way].items():
            patch.setattr(module, name, value)
        yield


def counts(c, by):
    each = c.rate if c.traversals == inf else c.traversals
    return each * (len(c.nodes) if by == "events" else 1)


@pytest.mark.parametrize("way", WAYS)
def test_the_cycles_that_runs_go_round_most(way):
    @settings(max_examples=250 if way == "as it is" else 100)
    @given(
        chains(), st.integers(1, 6), st.sampled_from(["flux", "events"]), st.booleans(), st.none() | st.integers(1, 3)
    )
    def hold(chain, top, by, through, longest):
        node = chain.names[0] if through else None
        every = [c for c in cycles(chain, 10**6, max_length=longest, through=node).cycles if c.traversals > 0]
        every.sort(key=lambda c: (-float(f"{counts(c, by):.9e}"), len(c.nodes), rotated(c.nodes)))
        with patched(way):
            found = cycles(chain, top, by=by, max_length=longest, through=node)
        assert [c.nodes for c in found.cycles] == [c.nodes for c in every[:top]]
        assert (found.complete, found.more) == (True, len(every) > top)

    hold()


@pytest.mark.parametrize("way", WAYS)
def test_traps_come_first(way):
    @settings(max_examples=60)
    @given(chains(traps=True), st.integers(1, 6))
    def hold(chain, top):
        every = [c for c in cycles(chain, 10**6).cycles if c.traversals > 0]
        with patched(way):
            found = cycles(chain, top, by="flux")
        endless = [c.traversals == inf for c in found.cycles]
        assert endless == sorted((c.traversals == inf for c in every), reverse=True)[:top]
        assert found.more == (len(every) > top)

    hold()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("leave", [0.3, 1e-3, 1e-12, 0.0])
def test_graphs_of_twelve_nodes_by_every_order(way, leave):
    """From where runs leave soon to closed classes; some arrows are taken nearly always."""
    rng = np.random.default_rng(int(1e3 * leave) + 3)
    for seed in range(3):
        n = 12
        weights = rng.exponential(size=(n, n)) ** 3 * (rng.random((n, n)) < 0.25) + np.roll(np.eye(n), 1, axis=1)
        stop = leave * rng.random(n)
        P = weights / weights.sum(axis=1, keepdims=True) * (1 - stop)[:, None]
        chain = Chain.from_matrix(P, start=str(seed), stop=stop)
        times = {(str(i), str(j)): (float(rng.exponential()) + 0.1, 0.0) for i, j in zip(*np.nonzero(P), strict=True)}
        every = cycles(chain, 10**6)
        assert every.complete

        def taken(c, times=times):
            return sum(times[arrow][0] for arrow in zip(c.nodes, (*c.nodes[1:], c.nodes[0]), strict=True))

        for by in ("flux", "events", "time"):

            def worth(c, by=by):
                return counts(c, by) * (taken(c) if by == "time" else 1)

            best = sorted((worth(c) for c in every.cycles), reverse=True)
            with patched(way):
                found = cycles(chain, 15, by=by, latencies=times if by == "time" else None)
            if way == "nothing known" and not found.complete:
                continue
            assert found.complete
            assert [worth(c) for c in found.cycles] == pytest.approx(best[:15], rel=1e-7)


@pytest.mark.parametrize("stop", [0.3, 0.02, 0.0])
@pytest.mark.parametrize("way", ["as it is", "large classes"])
def test_short_cycles_of_a_larger_class(way, stop):
    """All up to four nodes of 150 with four arrows each, enumerated; the bounds hold for each one of them."""
    rng = np.random.default_rng(5)
    n = 150
    rows, columns = np.repeat(np.arange(n), 4), rng.integers(0, n, 4 * n)
    P = sparse.csr_array((rng.random(4 * n) ** 2 + 0.01, (rows, columns)), shape=(n, n)).toarray()
    P += 0.3 * np.roll(np.eye(n), 1, axis=1)
    P *= (1 - stop) / P.sum(axis=1, keepdims=True)
    chain = Chain.from_matrix(P, start="0", stop=np.full(n, stop))
    every = short_cycles(chain, 4)
    solver = Solver(chain.P, chain.stop)
    fluxes = Fluxes(solver, solver.visits(chain.start)[1])
    sizes = {rotated([str(i) for i in c]): f.size for c, f in zip(every, fluxes.of(every), strict=True)}
    best = sorted(sizes, key=lambda c: -sizes[c])
    with patched(way):
        for kw in ({}, {"through": "7"}):
            wanted = [c for c in best if "7" in c or not kw][:30]
            found = cycles(chain, 30, by="flux", max_length=4, **kw)
            assert found.complete
            assert [rotated(c.nodes) for c in found.cycles] == wanted


def short_cycles(chain, longest):
    """Return all cycles of up to so many nodes, by going all ways from each node over later ones."""
    P, found = chain.P, []
    ways = [P.indices[P.indptr[i] : P.indptr[i + 1]].tolist() for i in range(len(chain.names))]
    waiting = [(i,) for i in range(len(ways))]
    while waiting:
        path = waiting.pop()
        for j in ways[path[-1]]:
            if j == path[0]:
                found.append(path)
            elif j > path[0] and j not in path and len(path) < longest:
                waiting.append((*path, j))
    return found


def ring_with_chords(n, seed, stop):
    rng = np.random.default_rng(seed)
    rows, columns = np.repeat(np.arange(n), 4), rng.integers(0, n, 4 * n)
    P = sparse.csr_array((rng.random(4 * n) + 0.01, (rows, columns)), shape=(n, n))
    P.sum_duplicates()
    P = sparse.csr_array(sparse.diags_array((1 - stop) / P.sum(axis=1)) @ P)
    return Chain.from_matrix(P, start="0", stop=1 - P.sum(axis=1))


def test_a_class_of_2_000_nodes():
    """The bounds that were proven tell as much as those of all cycles of up to three nodes, and through one node."""
    chain = ring_with_chords(2000, 1, 0.05)
    found = cycles(chain, 30, by="flux")
    assert (len(found.cycles), found.complete, found.more) == (30, True, True)
    solver = Solver(chain.P, chain.stop)
    short = short_cycles(chain, 3)
    fluxes = Fluxes(solver, solver.visits(chain.start)[1]).of(short)
    last = log(found.cycles[-1].traversals)
    names = {rotated([chain.names[i] for i in c]) for c, f in zip(short, fluxes, strict=True) if f.size > last + 1e-9}
    assert names <= {rotated(c.nodes) for c in found.cycles}
    assert len(names) > 5
    for kw in (
        {"top": 1},
        {"max_length": 1},
        {"max_length": 2},
        {"through": "5", "top": 3},
        {"top": 2, "by": "events"},
    ):
        again = cycles(chain, by="flux", **kw) if "by" not in kw else cycles(chain, **kw)
        assert again.complete
        assert again.cycles


def test_fluxes_by_columns_are_those_by_elimination(monkeypatch):
    for seed in range(4):
        chain = ring_with_chords(40, seed, [0.3, 0.01, 1e-6, 1e-13][seed])
        every = cycles(chain, 60)
        monkeypatch.setattr(cycle_flux, "DENSE", 0)
        other = cycles(chain, 60)
        monkeypatch.undo()
        for c, o in zip(every.cycles, other.cycles, strict=True):
            assert c.nodes == o.nodes
            assert abs(c.traversals - o.traversals) <= c.error_bound + o.error_bound
            assert o.error_bound <= 1e-8 * o.traversals


@pytest.mark.parametrize("compile_from", [0, 10**9])
def test_bounds_of_visits_hold(monkeypatch, compile_from):
    monkeypatch.setattr(near_visits, "COMPILED", compile_from)
    monkeypatch.setattr(near_visits, "COLUMNS", 7)
    rng = np.random.default_rng(2)
    for n in (1, 2, 3, 8, 60):
        for most in (3, 20_000):
            monkeypatch.setattr(near_visits, "MOST", most)
            P = rng.dirichlet(np.full(n + 1, 0.3), n)[:, :n] * (rng.random((n, n)) < 0.5)
            N = np.maximum(np.linalg.inv(np.eye(n) - P), 0)
            block = sparse.csr_array(P)
            block.sort_indices()
            found = near_visits.near_visits(block, N.sum(axis=1) * (1 + 1e-9), 0.1)
            i, j = np.nonzero(P)
            assert (found.most >= N.diagonal() * (1 - 1e-12)).all()
            assert (found.forth <= N[i, j] * (1 + 1e-12)).all()
            assert (found.back <= N[j, i] + 1e-15).all()
            if most > 3:
                assert (found.most <= N.diagonal() + 0.1 + 1e-6).all()


def test_ways_back_are_shortest_ones():
    """Beside Dijkstra's on the nodes after each root."""
    rng = np.random.default_rng(4)
    for _ in range(20):
        n = 12
        W = rng.random((n, n)) * (rng.random((n, n)) < 0.3)
        np.fill_diagonal(W, 0)
        into = sparse.csc_array(W)
        arrows = into.indptr.astype(np.int64), into.indices.astype(np.int64), into.data, into.data
        roots, reach = np.arange(n), rng.choice([0.2, 0.6, 5.0], n)
        found, looked = backs(arrows, roots, reach, 10**6, n)
        assert looked > 0
        for r in range(n):
            graph = nx.DiGraph(
                [(i, j, {"weight": W[i, j]}) for i, j in zip(*np.nonzero(W), strict=True) if min(i, j) >= r]
            )
            exact = nx.single_source_dijkstra_path_length(graph.reverse(), r) if r in graph else {r: 0.0}
            for i in range(r + 1, n):
                told = float(found.of(np.array([r]), np.array([i]))[0])
                assert told <= exact.get(i, inf) + 1e-12
                if exact.get(i, inf) <= reach[r]:
                    assert told == pytest.approx(exact[i])
        nothing, _ = backs(arrows, roots, reach, 0, n)
        assert not nothing.of(roots, roots).any()


def test_fluxes_below_the_least_number():
    """a -> b -> c -> a is closed 1e-400 times: it is there, after the others, and ranked by what it is."""
    tiny = Chain.from_matrix([[0, 1e-200, 0], [0, 0, 1e-200], [1, 0, 0]], ["a", "b", "c"], "a", stop=[1, 1, 0])
    found = cycles(tiny, by="flux")
    assert [(c.name, c.traversals) for c in found.cycles] == [("a -> b -> c -> a", 0.0)]
    assert (found.more, found.complete) == (False, True)
    assert 0 < found.cycles[0].error_bound < 1e-300
    two = chain_of({"a": {"b": 1e-300, "c": 1e-200, "a": 0.5}, "b": {"a": 1e-300}, "c": {"a": 1e-300}}, "a")
    for by in ("flux", "events"):
        found = cycles(two, by=by)
        assert [c.name for c in found.cycles] == ["a -> a", "a -> c -> a", "a -> b -> a"]
        assert found.complete
    closed = Chain.from_matrix([[1, 1e-200, 0], [1, 0, 1e-200], [1, 0, 0]], ["a", "b", "c"], "a", stop=np.zeros(3))
    found = cycles(closed, by="flux")
    assert [c.name for c in found.cycles][:2] == ["a -> a", "a -> b -> a"]
    assert len(found.cycles) == 3 or not found.complete


def test_what_runs_come_to_with_no_chance_that_is_a_number():
    """The loop at c is come to with 1e-400: it can't be told how often, and nobody says that it is not there."""
    chain = chain_of({"a": {"b": 1e-200}, "b": {"c": 1e-200}, "c": {"c": 0.5}}, "a")
    found = cycles(chain, by="flux")
    assert not found.cycles
    assert (found.complete, found.more, found.sure) == (False, True, 0)
    assert "There is no cycle" not in str(found)
    assert "None of those is gone round more than 1.000e-300 times a run" in str(found)


def test_bounds_that_are_hit_are_told(monkeypatch):
    monkeypatch.setattr(flux_exact, "BUDGET", 1)
    monkeypatch.setattr(flux_search, "PER_ARROW", 0)
    every = cycles(shop(), by="flux")
    for work in (0, 20, 60, 100, 200):
        monkeypatch.setattr(flux_search, "WORK", work)
        found = cycles(shop(), by="flux")
        assert found.cycles[: found.sure] == every.cycles[: found.sure]
        assert (found.more, found.unlisted is None) == (not found.complete, found.complete)
        missing = [c.traversals for c in every.cycles[found.sure :]]
        assert found.complete or not missing or max(missing) <= found.unlisted
        assert found.complete == (work >= 100)
    monkeypatch.setattr(flux_search, "WORK", 0)
    monkeypatch.setattr(flux_exact, "LARGEST", 1)
    assert not cycles(pit(), 3, by="flux").complete


def test_columns_by_steps_are_those_of_a_solver():
    """Each entry within both bounds; rows, too; where a class mixes slowly nothing is said."""
    for stop in (0.3, 0.02, 1e-4):
        chain = ring_with_chords(300, 3, stop)
        solver = Solver(chain.P, chain.stop)
        N = np.linalg.inv(np.eye(300) - chain.P.toarray())
        unit = np.eye(300)[:, :5]
        for steps, exact in ((Steps(solver), N[:, :5]), (Steps(solver, transposed=True), N[:5].T)):
            found = steps.columns(unit, slice(None))
            assert (np.abs(found.values - exact) <= found.bound + 1e-11 / stop).all()
            assert found.bound.max() <= 1e-10 * found.values.max()
    ring = chain_of({str(i): {str((i + 1) % 50): 0.999} for i in range(50)}, "0")
    assert Steps(Solver(ring.P, ring.stop)).columns(np.eye(50)[:, :1], slice(None)) is None


@pytest.mark.parametrize("leave", [0.02, 0.0])
def test_large_classes_by_columns_beside_elimination(monkeypatch, leave):
    """Closed ones are cut at one state: cycles through it, and beside it."""
    chain = ring_with_chords(60, 2, leave) if leave else closed_ring(60)
    every = cycles(chain, 80)
    monkeypatch.setattr(cycle_flux, "DENSE", 0)
    other = cycles(chain, 80)
    for c, o in zip(every.cycles, other.cycles, strict=True):
        assert c.nodes == o.nodes
        assert counts(o, "flux") == pytest.approx(counts(c, "flux"), rel=1e-9)
        assert o.rate is None or abs(c.rate - o.rate) <= c.rate_bound + o.rate_bound


def closed_ring(n):
    rng = np.random.default_rng(n)
    P = rng.random((n, n)) * (rng.random((n, n)) < 0.06) + np.roll(np.eye(n), 1, axis=1)
    return Chain.from_matrix(P / P.sum(axis=1, keepdims=True), start="0", stop=np.zeros(n))


def test_a_class_of_which_nothing_is_known_says_so(monkeypatch):
    """What is listed is likely, nothing of it is proven, and nothing counts for more than is told."""
    monkeypatch.setattr(flux_bounds, "DENSE", 0)
    monkeypatch.setattr(flux_exact, "BUDGET", 1)
    monkeypatch.setattr(flux_paths, "UNKNOWN", 3)
    chain = closed_ring(40)
    found = cycles(chain, 10, by="flux")
    assert (len(found.cycles), found.complete, found.more, found.endless) == (10, False, True, True)
    assert found.sure < 10
    assert max(c.rate for c in found.cycles) <= found.unlisted
    assert "per event in the long run" in str(found)
    monkeypatch.undo()
    exact = cycles(chain, 10, by="flux")
    assert exact.complete
    assert found.cycles[: found.sure] == exact.cycles[: found.sure]


@pytest.mark.parametrize("by", ["probability", "flux"])
@pytest.mark.parametrize("wrong", [0, -1, 2.5, True, "3", float("nan")])
def test_what_is_no_number_of_cycles_is_refused(by, wrong):
    for kw in ({"top": wrong}, {"max_length": wrong}):
        with pytest.raises(AnalysisError, match=f"{next(iter(kw))} is a whole number of at least 1, not"):
            cycles(shop(), by=by, **kw)


@settings(max_examples=60)
@given(chains(), st.integers(1, 8), st.integers(0, 10**6))
def test_every_order_beside_all_cycles_that_networkx_lists(chain, top, seed):
    """Fluxes as `P(hit c) prod p det N[c, c]` of one dense inverse; renamed nodes change nothing but names."""
    n = len(chain.names)
    P = chain.P.toarray()
    N = np.linalg.inv(np.eye(n) - P)
    rng = np.random.default_rng(seed)
    times = {(i, j): float(rng.integers(1, 9)) for i, j in zip(*np.nonzero(P), strict=True)}
    named = {(chain.names[i], chain.names[j]): (t, 0.0) for (i, j), t in times.items()}
    worth = {"probability": [], "flux": [], "events": [], "time": []}
    for c in nx.simple_cycles(nx.DiGraph(list(times))):
        arrows = list(zip(c, [*c[1:], c[0]], strict=True))
        p = prod(P[i, j] for i, j in arrows)
        own = N[np.ix_(c, c)]
        flux = p * np.linalg.det(own) * float(np.linalg.solve(own.T, chain.start @ N[:, c]).sum())
        worth["probability"].append(p)
        if flux > 1e-14:
            worth["flux"].append(flux)
            worth["events"].append(flux * len(c))
            worth["time"].append(flux * sum(times[a] for a in arrows))
    order = rng.permutation(n)
    turned = relabelled(chain, order.tolist(), {name: name for name in chain.names})
    for by, sizes in worth.items():
        latencies = named if by == "time" else None
        found = cycles(chain, top, by=by, latencies=latencies)
        told = {"probability": lambda c: c.probability, "flux": lambda c: counts(c, "flux")}
        told |= {"events": lambda c: counts(c, "events"), "time": lambda c: c.time}
        value = [told[by](c) for c in found.cycles]
        assert value == pytest.approx(sorted(sizes, reverse=True)[:top], rel=1e-7, abs=1e-13)
        again = cycles(turned, top, by=by, latencies=latencies)
        assert [rotated(c.nodes) for c in again.cycles] == [rotated(c.nodes) for c in found.cycles]
