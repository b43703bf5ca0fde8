"""Storms of large classes: next to critical by closed forms, against plain iteration, and every way of solving."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from flowstat.analyze import positive, progeny, radius, shifted
from flowstat.analyze.amplification import amplification
from flowstat.analyze.critical import critical
from flowstat.analyze.fixed_point import Functions
from flowstat.analyze.generations import generations
from flowstat.analyze.offspring import offspring
from flowstat.analyze.radius import enclose, radii
from flowstat.analyze.reach import reach
from flowstat.analyze.shifted import Factors
from flowstat.analyze.strong import Classes
from flowstat.estimate.chain import estimate
from flowstat.estimate.counting import count
from flowstat.estimate.counts import Counts
from flowstat.read.files import read_graph
from flowstat.read.patterns import format_pattern
from flowstat.read.traces import read_traces
from flowstat.show.tables import render
from tests.branching_oracle import counts_of, exact_mean, table_of, tables
from tests.test_bounds import solution

DATA = Path(__file__).parent.parent / "data"
WHOLE = 10**6


def even(n, by, whole=WHOLE, seed=1):
    """Return counts of n nodes of which each event sends two messages or none: rho is 1 + 2 by / whole."""
    rng = np.random.default_rng(seed)
    table = {}
    for i in range(n):
        a, b = rng.integers(0, n, 2).tolist()
        pattern = format_pattern([f"n{a}", f"n{b if b != a else (a + 1) % n}"])
        table[f"n{i}", pattern] = whole // 2 + by
        table[f"n{i}", ""] = whole // 2 - by
    return Counts(table, {"n0": 1})


def uneven(n, near, seed=2, more=0.0):
    """Return counts of n nodes, each with its own chances, that send to near ones or to any, about critical."""
    rng = np.random.default_rng(seed)
    table = {}
    for i in range(n):
        targets = (i + rng.integers(-near, near + 1, 4)) % n if near else rng.integers(0, n, 4)
        a, b, c, d = (f"n{j}" for j in targets.tolist())
        for pattern, events in (((a, b), int(rng.integers(40, 90) + 100 * more)), ((c,), 20), ((d,), 10), ((), 70)):
            key = (f"n{i}", format_pattern(pattern))
            table[key] = table.get(key, 0) + events
    return Counts(table, {"n0": 1})


@pytest.mark.parametrize(("by", "whole"), [(2900, WHOLE), (1, WHOLE), (1, 10**9), (1, 10**12)])
def test_ten_thousand_nodes_next_to_critical(by, whole):
    # Each event: x = 1/2 - e + (1/2 + e) x^2, at every node the same; x = (1/2 - e) / (1/2 + e).
    found = amplification(even(10_000, by, whole))
    assert found.verdict == "multiplies"
    assert abs(found.rho - (1 + 2 * by / whole)) <= found.rho_bound < 1e-14
    right = Fraction(whole // 2 - by, whole // 2 + by)
    assert abs(Fraction(found.dies_out) - right) <= Fraction(found.dies_out_bound)
    assert found.dies_out_bound < 1e-13
    assert max(row.dies_out_bound for row in found.messages.states) < 1e-13
    # Below: 1 + 2 (1/2 - e) m = m.
    below = amplification(even(10_000, -by, whole))
    assert (below.verdict, below.dies_out, below.dies_out_bound) == ("dampens", 1.0, 0.0)
    if whole == 10**12:
        assert below.events is None
        assert "too close to critical" in str(below)
        return
    assert abs(Fraction(below.events) - Fraction(whole, 2 * by)) <= Fraction(below.events_bound)
    # As good as the mean matrix, whose entries are rounded, tells.
    assert below.events_bound <= 1e-14 * below.events**2


def test_a_large_class_is_exactly_critical():
    found = amplification(even(3_000, 0))
    assert (found.rho, found.rho_bound, found.verdict, found.dies_out) == (1.0, 0.0, "critical", 1.0)
    for by in (1, -1):
        counts = even(3_000, 0, 10**15)
        node = found.classes[0].nodes[7]
        key = next(k for k in counts.table if k[0] == node and k[1])
        table = {**counts.table, key: counts.table[key] + by, (node, ""): counts.table[node, ""] - by}
        # All rows but one sum to 1: no number tells, fractions do.
        assert amplification(Counts(table, {"n0": 1})).verdict == ("multiplies" if by > 0 else "dampens")


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("by", [-1, 0, 1])
def test_the_side_of_one_by_fractions(by, turned):
    # A ring of fifty with weights 1, 2, 3 at its nodes: A x = x, but for 1e-15 of one entry.
    n, whole = 50, 6 * 10**15
    weight = [1 + k % 3 for k in range(n)]
    table = {}
    for i in range(n):
        j = (i + 1) % n
        p = Fraction(weight[j], weight[i]) if turned else Fraction(weight[i], weight[j])
        # Two to the next one, so that p messages are sent on average, and as many to make it spread.
        events = int(p * whole / 4) + (by if i == 3 else 0)
        table[f"n{i:02}", f"n{j:02}*2"] = 2 * events
        if 2 * events < whole:
            table[f"n{i:02}", ""] = whole - 2 * events
    chain = estimate(Counts(table, {"n00": 1}))
    (found,) = radii(offspring(chain))
    exact = Fraction(1)
    M = exact_mean(chain.counts)
    for i in range(n):
        exact *= M[i][(i + 1) % n]
    assert found.verdict == ("critical" if exact == 1 else "multiplies" if exact > 1 else "dampens")


@pytest.mark.parametrize(("near", "more"), [(0, 0.2), (3, 0.25), (0, -0.1)])
def test_against_plain_iteration(near, more):
    counts = uneven(2_000, near, more=more)
    law = offspring(estimate(counts))
    found = amplification(counts)
    x = np.zeros(2_000)
    for _ in range(20_000):
        with np.errstate(divide="ignore"):
            new = law.stop + np.bincount(law.node, law.chance * np.exp(law.sent @ np.log(x)), 2_000)
        if np.abs(new - x).max() < 1e-16:
            break
        x = new
    for value, row in zip(x, found.messages.states, strict=True):
        assert abs(row.dies_out - value) <= row.dies_out_bound + 1e-12
        assert row.dies_out_bound < 1e-12
    root = max(abs(sparse.linalg.eigs(law.mean, k=4, v0=np.ones(2_000))[0]))
    assert abs(found.rho - root) < 1e-9
    if found.verdict == "dampens":
        m = sparse.linalg.spsolve(sparse.csc_array(sparse.eye_array(2_000)) - law.mean.tocsc(), np.ones(2_000))
        for value, row in zip(m, found.messages.states, strict=True):
            assert abs(row.onward - value) <= row.onward_bound + 1e-10 * value
        assert found.events_bound < 1e-9 * found.events


def test_values_far_apart_are_all_right():
    # Along a line of 100 nodes two messages go on once in a thousand, one back in three of ten: y spans 1e-250.
    n = 100
    rows = {
        f"n{k:02}": {f"n{k + 1:02} n{k + 1:02}" if k < 99 else "x": 1, f"n{max(k - 1, 0):02}": 300, "": 699}
        for k in range(n)
    }
    y = np.zeros(n + 1)
    y[n] = 1.0
    for _ in range(2_000):
        back = np.concatenate([y[:1], y[: n - 1]])
        onward = np.where(np.arange(n) < 99, y[1:] * (2 - y[1:]), y[1:])
        y[:n] = (onward + 300 * back) / 1000
    counts = counts_of(rows)
    for dense in (shifted.DENSE, 1):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shifted, "DENSE", dense)
            patch.setattr(shifted, "SMALL", 10 if dense == 1 else shifted.SMALL)
            found = reach(counts, "x")
        assert found.states[0].probability < 1e-240
        for value, row in zip(y, found.states, strict=True):
            assert abs(row.probability - value) <= row.error_bound + 1e-12 * value
            assert row.error_bound <= 1e-10 * value + 1e-280


@settings(deadline=None, max_examples=100)
@given(counts=tables(largest=4), seed=st.integers(0, 10**6))
def test_several_is_what_one_leaves(counts, seed):
    law = offspring(estimate(counts))
    n = len(law.stop)
    rng = np.random.default_rng(seed)
    y = rng.choice([0.0, 1.0, 0.5, 1e-3, 0.9], n)
    g = Functions(law, np.flatnonzero(rng.random(n) < 0.7))
    if not len(g.some):
        return
    table = table_of(counts)
    inside = np.zeros(n, bool)
    inside[g.some] = True
    right = []
    for i in g.some.tolist():
        total = 0.0
        for p, sent in zip(table.chance[i], table.sent[i], strict=True):
            # The chances that none, or one, of the messages whose value is looked for brings something about.
            each = np.repeat(y, sent)
            mine = np.repeat(inside, sent)
            known = np.prod(1 - each[~mine])
            none = np.prod(1 - each[mine])
            one = sum(v * np.prod(1 - np.delete(each[mine], k)) for k, v in enumerate(each[mine]))
            total += p * (1 - known * (none + one))
        right.append(total)
    np.testing.assert_allclose(g.several(y), right, atol=1e-13)


@settings(deadline=None, max_examples=60)
@given(counts=tables(largest=4, dyadic=True))
def test_the_residual_alone_bounds_what_is_exact(counts):
    chain = estimate(counts)
    M = exact_mean(counts)
    n = len(M)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progeny, "LOOSE", -1.0)
        patch.setattr(progeny, "FINE", -1.0)
        found = amplification(chain)
    if found.verdict != "dampens" or found.events is None:
        return
    matrix = [[(a == b) - M[a][b] for b in range(n)] for a in range(n)]
    for right, node in zip(solution(matrix, [1] * n), found.messages.states, strict=True):
        assert abs(Fraction(node.onward) - right) <= Fraction(node.onward_bound)
    i = chain.index[next(iter(counts.starts))]
    turned = [list(row) for row in zip(*matrix, strict=True)]
    for right, node in zip(solution(turned, [int(k == i) for k in range(n)]), found.messages.states, strict=True):
        assert abs(Fraction(node.events) - right) <= Fraction(node.events_bound)


WAYS = {
    "small": {"SMALL": 10**6},
    "narrow": {"SMALL": 5, "NARROW": 10**6},
    "flat": {"SMALL": 5, "NARROW": -1, "FLAT": 10**6},
    "wide": {"SMALL": 5, "NARROW": -1, "FLAT": -1},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("relaxes", [True, False])
def test_every_way_solves(monkeypatch, way, relaxes):
    monkeypatch.setattr(shifted, "DENSE", 1)
    for name, value in WAYS[way].items():
        monkeypatch.setattr(shifted, name, value)
    rng = np.random.default_rng(4)
    for n in (2, 40, 150):
        A = sparse.random_array((n, n), density=min(1.0, 3 / n), rng=rng, format="csr")
        A.data = np.abs(A.data) + 0.1
        root = max(abs(np.linalg.eigvals(A.toarray())))
        b = rng.random(n)
        for shift in (1.5 * root + 0.1, root * (1 + 1e-6) + 1e-9):
            x = Factors(A, shift, relaxes=relaxes).solve(b)
            right = np.linalg.solve(shift * np.eye(n) - A.toarray(), b)
            np.testing.assert_allclose(x, right, rtol=1e-6)
    # Above the root there is no telling, or a negative answer.
    x = Factors(A, 0.5 * root, relaxes=relaxes).solve(b)
    assert x is None or (x < 0).any()


def test_a_line_of_classes_with_a_large_one():
    counts = uneven(1_500, 0, more=0.1)
    more = {
        ("s", "n0 t"): 3,
        ("s", ""): 1,
        ("t", "t"): 1,
        ("t", "n3"): 2,
        ("n9", "u u"): 50,
        ("u", "u u"): 1,
        ("u", "v"): 1,
        ("v", ""): 1,
    }
    chain = estimate(Counts({**counts.table, **more}, {"s": 1}))
    law = offspring(chain)
    assert np.diff(Classes(law.mean).offsets).max() > shifted.SMALL
    storm = amplification(chain)
    by_name = {row.node: row for row in storm.messages.states}
    s, t, n0, n3 = (by_name[name].dies_out for name in ("s", "t", "n0", "n3"))
    # From t one comes to n3 for certain.
    assert abs(t - n3) < 1e-13
    assert abs(s - (0.25 + 0.75 * n0 * t)) < 1e-13
    assert storm.dies_out_bound < 1e-12


def test_slow_large_classes_have_their_root():
    # A line that leads on about as often as back mixes in n^2 steps; a torus in as many as it has nodes.
    n = 3_000
    line = sparse.csr_array(sparse.diags_array([np.full(n - 1, 0.3), np.full(n - 1, 0.31)], offsets=[1, -1]))
    low, high, _ = enclose(line, 0.0)
    # Toeplitz: 2 sqrt(0.3 0.31) cos(pi / (n + 1)).
    right = 2 * np.sqrt(0.093) * np.cos(np.pi / (n + 1))
    assert low - 1e-15 <= right <= high + 1e-15
    assert high - low < 1e-12
    side = 60
    rng = np.random.default_rng(0)
    place = np.arange(side * side).reshape(side, side)
    around = np.concatenate([np.roll(place, d, axis=a).ravel() for a in (0, 1) for d in (1, -1)])
    data = rng.uniform(0.1, 0.4, len(around))
    torus = sparse.csr_array((data, (np.tile(place.ravel(), 4), around)), shape=(side**2, side**2))
    low, high, x = enclose(torus, 0.0)
    assert high - low < 1e-12
    np.testing.assert_allclose(torus @ x, high * x, rtol=1e-12)
    assert positive.positive(sparse.csr_array(torus / (high * (1 + 1e-9))), 0.0) is not None
    assert positive.positive(sparse.csr_array(torus / (low * (1 - 1e-9))), 0.0) is None
    assert side**2 > radius.DENSE


@pytest.mark.parametrize(
    ("graph", "traces"), [("mesh", "mesh"), ("mesh", "mesh_storm"), ("orders",) * 2, ("jobs",) * 2]
)
def test_tables_of_the_examples_are_clear(graph, traces):
    chain = estimate(*_counted(graph, traces))
    storm, found, waves = amplification(chain), critical(chain), generations(chain, horizon=10)
    for result in (storm, storm.arrows, storm.messages, waves, found):
        printed = render(result, width=100)
        assert max(map(len, printed.splitlines())) <= 100, printed
        assert "e-1" not in printed
    assert "reason" not in found.printed()
    assert "reason" in critical(chain, (storm.arrows.arrows[0].source, "(end)")).columns
    assert "alive" in str(waves)
    assert "contribution:" in str(storm.arrows)


def _counted(graph, traces):
    declared = read_graph(DATA / f"{graph}.graph")
    return count(read_traces(DATA / f"{traces}.parquet"), declared), declared


def test_what_falls_below_all_numbers_spoils_nothing():
    # Two in a thousand of 200 times over: 1e-540 at the far end, and the near one known as well as ever.
    n = 200
    rows = {
        f"n{k:03}": {f"n{k + 1:03} n{k + 1:03}" if k < n - 1 else "x": 1, f"n{max(k - 1, 0):03}": 300, "": 699}
        for k in range(n)
    }
    for dense in (shifted.DENSE, 1):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shifted, "DENSE", dense)
            found = reach(counts_of(rows), "x")
        assert found.error_bound < 1e-14
        assert found.states[0].probability + found.states[0].error_bound < 1e-280
        assert abs(found.states[n - 1].probability - 1e-3) < 1e-6
