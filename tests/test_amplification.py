"""Storms: roots, verdicts, expectations and extinction, by hand, by brute force, by simulation, and as chains."""

import json
from dataclasses import replace
from fractions import Fraction
from math import inf, isinf, sqrt

import numpy as np
import pytest
from hypothesis import given, settings

from flowstat.analyze import radius, shifted, solve
from flowstat.analyze.absorption import absorption
from flowstat.analyze.amplification import amplification
from flowstat.analyze.generations import generations
from flowstat.analyze.offspring import offspring
from flowstat.analyze.radius import radii
from flowstat.analyze.visits import visits
from flowstat.errors import AnalysisError, ChainError
from flowstat.estimate.chain import Chain, estimate
from flowstat.estimate.counts import Counts
from flowstat.read.files import parse_graph
from tests.branching_oracle import counts_of, exact_mean, iterated, play, table_of, tables
from tests.oracles import chains
from tests.test_bounds import solution

RUNS = 1_000_000


def near(value, right, bound=1e-12):
    assert abs(value - right) <= bound, (value, right)


@pytest.mark.parametrize("doubled", [12, 13])
def test_a_fan_out_loop_beside_critical(doubled):
    # a sends two to b with p = 12/25 (13/25), b sends one back: rho^2 = 2 p. m_a = 1 + 2 p m_b and m_b = 1 + m_a give
    # m_a = (1 + 2p) / (1 - 2p) = 49. x = 1 - p + p x^2 gives x = (1 - p) / p = 12/13 where p is above a half.
    found = amplification(counts_of({"a": {"b b": doubled, "": 25 - doubled}, "b": {"a": 1}}))
    near(found.rho, sqrt(2 * doubled / 25), found.rho_bound)
    assert found.rho_bound < 1e-14
    if doubled == 12:
        assert (found.verdict, found.dies_out, found.dies_out_bound) == ("dampens", 1.0, 0.0)
        near(found.events, 49, found.events_bound)
        assert found.events_bound < 1e-10
    else:
        assert (found.verdict, found.events, found.events_sd) == ("multiplies", inf, inf)
        near(found.dies_out, float(Fraction(12, 13)), found.dies_out_bound)
        assert found.dies_out_bound < 1e-13


@pytest.mark.parametrize(
    "row",
    [{"b b": 1, "": 1}, {"b b b": 1, "": 2}, {"b*7": 3, "b": 4, "": 21}],
)
def test_exactly_critical_is_told_in_fractions(row):
    # 7 * 3/28 + 4/28 = 25/28 is not: only the first two are.
    found = amplification(counts_of({"a": row, "b": {"a": 1}}))
    assert found.verdict == ("dampens" if "b*7" in row else "critical")
    assert found.dies_out == 1.0
    if found.verdict == "critical":
        assert (found.rho, found.rho_bound, found.events) == (1.0, 0.0, inf)
        assert "critical" in found.reason


def test_cycles_of_gain_below_one_multiply_together():
    # a sends to b and c with 3/5, both send back: each cycle has the gain 3/5, rho^2 = 6/5.
    found = amplification(counts_of({"a": {"b c": 3, "": 2}, "b": {"a": 1}, "c": {"a": 1}}))
    near(found.rho, sqrt(1.2), found.rho_bound)
    assert found.verdict == "multiplies"
    # x = 2/5 + 3/5 x^2 has the roots 1 and 2/3.
    near(found.dies_out, 2 / 3, found.dies_out_bound)
    for arrow in found.arrows.arrows:
        # All four arrows carry the same: each of rho's cycles has two of them.
        near(arrow.elasticity, 0.25)


@pytest.mark.parametrize("p", [Fraction(1, 4), Fraction(49, 100), Fraction(1, 2), Fraction(51, 100), Fraction(9, 10)])
def test_binary_splitting(p):
    # Extinction min(1, (1 - p) / p); below critical the mean is 1 / (1 - 2p), the variance 4 p (1 - p) / (1 - 2p)^3.
    found = amplification(counts_of({"a": {"a a": p.numerator, "": p.denominator - p.numerator}}))
    near(found.dies_out, float(min(Fraction(1), (1 - p) / p)), found.dies_out_bound + 1e-16)
    if p < Fraction(1, 2):
        near(found.events, float(1 / (1 - 2 * p)), found.events_bound)
        variance = float(4 * p * (1 - p) / (1 - 2 * p) ** 3)
        near(found.events_sd, sqrt(variance), found.events_sd_bound + 1e-15)
        node = found.messages.states[0]
        near(node.variance, variance, node.variance_bound + 1e-15)
    else:
        assert isinf(found.events)


@pytest.mark.parametrize("by", [1, 0, -1])
def test_next_to_critical_nothing_hangs(by):
    k = 5 * 10**14 - by
    found = amplification(counts_of({"a": {"b b": k, "": 10**15 - k}, "b": {"a": 1}}))
    right = min(1.0, (10**15 - k) / k)
    assert abs(found.dies_out - right) <= found.dies_out_bound + 1e-16
    assert found.verdict == {1: "dampens", 0: "critical", -1: "multiplies"}[by]
    if by == 1:
        # (1 + 2p) / (1 - 2p) with 1 - 2p = 2e-15: in fractions nothing of it is lost.
        exact = (1 + Fraction(2 * k, 10**15)) / (1 - Fraction(2 * k, 10**15))
        assert abs(Fraction(found.events) - exact) <= Fraction(found.events_bound)
        assert found.events_bound < 1e-12 * found.events
    else:
        assert found.events == inf


def test_what_never_ends_has_the_root_one():
    ring = amplification(counts_of({"a": {"b": 1}, "b": {"a": 1}}))
    assert (ring.rho, ring.verdict, ring.dies_out, ring.events) == (1.0, "critical", 0.0, inf)
    beside = amplification(counts_of({"a": {"b log": 1}, "b": {"a": 1}}))
    assert (beside.rho, beside.verdict, beside.dies_out) == (1.0, "critical", 0.0)
    assert beside.classes[0].for_ever
    assert beside.messages.states[2].events == inf
    half = amplification(counts_of({"s": {"a log": 1, "": 1}, "a": {"a log": 1}}))
    near(half.dies_out, 0.5, half.dies_out_bound)
    immortal = amplification(counts_of({"a": {"a a": 1, "a": 3}}))
    assert (immortal.verdict, immortal.dies_out) == ("multiplies", 0.0)
    assert immortal.dies_out_bound < 1e-15


def test_a_node_that_never_leaves_its_class_passes_on_a_copy():
    # d sends one back to a and a copy to b, a ends one time in two: b gets one from each of two events at d, on
    # average one from a start at a: visits of a 2, of d 1, of b 1.
    found = amplification(counts_of({"a": {"d": 1, "": 1}, "d": {"a b": 1}, "b": {"": 1}}))
    assert [row.node for row in found.messages.states] == ["a", "b", "d"]
    for row, right in zip(found.messages.states, (2, 1, 1), strict=True):
        assert abs(row.events - right) <= row.events_bound < 1e-13
    near(found.events, 4, found.events_bound)


def test_a_class_that_is_not_reached_is_only_told():
    found = amplification(counts_of({"s": {"t": 1}, "a": {"a a t": 2, "": 1}}))
    assert found.verdict == "multiplies"
    assert not found.classes[0].reached
    assert (found.events, found.dies_out) == (2.0, 1.0)
    by_name = {row.node: row for row in found.messages.states}
    assert (by_name["a"].events, by_name["a"].onward, by_name["s"].onward) == (0.0, inf, 2.0)
    near(by_name["a"].dies_out, 0.5, by_name["a"].dies_out_bound)


def test_generations_by_hand():
    # Z_n of binary splitting: mean m^n, variance s^2 m^(n-1) (m^n - 1) / (m - 1), with m = 3/2, s^2 = 3/4.
    found = generations(counts_of({"a": {"a a": 3, "": 1}}), horizon=6)
    for g in found.generations:
        near(g.messages, 1.5**g.generation, g.error_bound + 1e-15)
        right = 0.75 * 1.5 ** (g.generation - 1) * (1.5**g.generation - 1) / 0.5
        near(g.variance, right, g.variance_bound + 1e-15)
    assert found.by_node.shape == (7, 1)
    assert found.error_bound < 1e-12
    far = generations(counts_of({"a": {"a*9": 1}}), horizon=400)
    assert far.cut
    assert all(np.isfinite(g.variance) for g in far.generations)


@settings(deadline=None, max_examples=150)
@given(counts=tables())
def test_against_brute_force(counts):
    table = table_of(counts)
    chain = estimate(counts)
    assert chain.names == table.names
    M = table.mean
    found = amplification(chain)
    root = max(abs(np.linalg.eigvals(M)))
    near(found.rho, root, 1e-7)
    near(sum(a.elasticity for a in found.arrows.arrows), len(found.classes), 1e-12)
    i = chain.index[next(iter(counts.starts))]
    x = iterated(table, np.zeros(len(M)))
    slow = abs(root - 1) < 0.02
    for k, node in enumerate(found.messages.states):
        near(node.dies_out, x[k], node.dies_out_bound + (0.1 if slow else 1e-9))
    near(found.dies_out, x[i], found.dies_out_bound + (0.1 if slow else 1e-9))
    if root < 0.999:
        N = np.linalg.inv(np.eye(len(M)) - M)
        near(found.events, N[i].sum(), found.events_bound + 1e-11 * N.sum())
        m = N.sum(axis=1)
        sigma = np.array(
            [p @ (s @ m - (m[k] - 1)) ** 2 for k, (p, s) in enumerate(zip(table.chance, table.sent, strict=True))]
        )
        near(found.events_sd**2, (N @ sigma)[i], 1e-9 * (1 + (N @ sigma)[i]))
        for k, node in enumerate(found.messages.states):
            near(node.events, N[i, k], node.events_bound + 1e-11 * N.sum())
            near(node.onward, m[k], node.onward_bound + 1e-11 * N.sum())
            each = np.array(
                [
                    p @ (s @ N[:, k] - M[j] @ N[:, k]) ** 2
                    for j, (p, s) in enumerate(zip(table.chance, table.sent, strict=True))
                ]
            )
            near(node.variance, (N @ each)[i], 1e-9 * (1 + (N @ each)[i]))


@settings(deadline=None, max_examples=100)
@given(counts=tables(dyadic=True))
def test_exact_answers_lie_within_the_bounds(counts):
    chain = estimate(counts)
    M = exact_mean(counts)
    n = len(M)
    law = offspring(chain)
    for r in radii(law):
        # The sign of the characteristic polynomial above the root, and its verdict: pivots of x I - A in fractions.
        for x, sign in ((Fraction(r.rho) + Fraction(r.bound), 1), (Fraction(r.rho) - Fraction(r.bound), -1)):
            A = [[(x if a == b else 0) - M[a][b] for b in r.states.tolist()] for a in r.states.tolist()]
            assert dominates(A) is (sign > 0) or (sign > 0 and r.bound == 0) or zero(A)
    found = amplification(chain)
    if found.verdict != "dampens":
        return
    matrix = [[(a == b) - M[a][b] for b in range(n)] for a in range(n)]
    m = solution(matrix, [1] * n)
    for right, node in zip(m, found.messages.states, strict=True):
        assert abs(Fraction(node.onward) - right) <= Fraction(node.onward_bound)
    i = chain.index[next(iter(counts.starts))]
    transposed = [list(row) for row in zip(*matrix, strict=True)]
    v = solution(transposed, [int(k == i) for k in range(n)])
    for right, node in zip(v, found.messages.states, strict=True):
        assert abs(Fraction(node.events) - right) <= Fraction(node.events_bound)
    assert abs(Fraction(found.events) - m[i]) <= Fraction(found.events_bound)


def dominates(A):
    """Whether all pivots of a matrix with no positive entry off its diagonal are positive."""
    A = [list(row) for row in A]
    for k in range(len(A)):
        if A[k][k] <= 0:
            return False
        for r in range(k + 1, len(A)):
            f = A[r][k] / A[k][k]
            A[r] = [x - f * y for x, y in zip(A[r], A[k], strict=True)]
    return True


def zero(A):
    """Whether only the last pivot is not positive, and that is zero."""
    A = [list(row) for row in A]
    for k in range(len(A) - 1):
        if A[k][k] <= 0:
            return False
        for r in range(k + 1, len(A)):
            f = A[r][k] / A[k][k]
            A[r] = [x - f * y for x, y in zip(A[r], A[k], strict=True)]
    return A[-1][-1] == 0


@settings(deadline=None, max_examples=60)
@given(chain=chains(traps=True))
def test_without_fan_out_it_is_the_chain(chain):
    found = amplification(chain)
    ends, seen = absorption(chain), visits(chain)
    stops = sum(o.probability for o in ends.outcomes if o.kind == "stop")
    near(found.dies_out, stops)
    assert found.rho <= 1.0
    assert found.verdict in ("dampens", "critical")
    if isinf(ends.events):
        assert isinf(found.events)
    else:
        near(found.events, ends.events, 1e-12 * ends.events)
        near(found.events_sd, ends.events_sd, 1e-12 * max(1.0, ends.events_sd))
    for ours, theirs in zip(found.messages.states, seen.nodes, strict=True):
        if not (isinf(theirs.visits) or isinf(ours.events)):
            near(ours.events, theirs.visits, 1e-12 * max(1.0, theirs.visits))
            near(ours.variance, theirs.variance, 1e-11 * max(1.0, theirs.variance))


PLAYED = {
    "below": ({"a": {"b b": 2, "c": 1, "": 3}, "b": {"a": 1, "": 1}, "c": {"d": 1, "": 1}}, 4),
    "above": ({"a": {"b b": 4, "c": 1, "": 3}, "b": {"a c": 3, "": 1}, "c": {"d": 1, "": 9}}, 4),
    "critical": ({"a": {"a a": 1, "d": 1, "": 2}}, None),
}


@pytest.mark.parametrize("case", PLAYED)
def test_a_million_runs_agree(case):
    rows, _ = PLAYED[case]
    counts = counts_of(rows)
    if case == "critical":
        # 2/4 is below: with one in two it is critical, where runs end, but some after very long.
        counts = counts_of({"a": {"a a": 1, "": 1}})
    table = table_of(counts)
    most = 400 if case != "critical" else 60
    played = play(table, "a", RUNS, seed=3, most=most, crowd=100 if case == "above" else 2000)
    found = amplification(counts)
    waves = generations(counts, horizon=60)
    share = played.ended.mean()
    right = found.dies_out if case != "critical" else 1 - waves.generations[60].alive
    assert abs(share - right) <= 4 * sqrt(max(right * (1 - right), 1e-9) / RUNS) + 1e-9
    for k, sizes in enumerate(played.sizes):
        g = waves.generations[k]
        assert abs(sizes.mean() - g.messages) <= 4 * g.deviation / sqrt(RUNS) + 1e-12
        alive = (sizes > 0).mean()
        assert abs(alive - g.alive) <= 4 * sqrt(g.alive * (1 - g.alive) / RUNS) + 1e-9
        if k and g.variance:
            assert abs(sizes.var() / g.variance - 1) < 0.02
    if case == "below":
        assert abs(played.total.mean() - found.events) <= 4 * found.events_sd / sqrt(RUNS)
        assert abs(played.total.std() / found.events_sd - 1) < 0.02


def test_sparse_is_dense(monkeypatch):
    counts = counts_of(
        {"a": {"b b": 2, "c": 1, "": 3}, "b": {"a": 1, "": 1}, "c": {"d d": 1, "": 2}, "d": {"c": 1, "d": 1, "": 1}}
    )
    plain, waves = amplification(counts), generations(counts)
    for module in (shifted, radius, solve):
        monkeypatch.setattr(module, "DENSE", 1)
    # Factors of all, of a line, and a chain that is relaxed.
    for small, narrow in ((shifted.SMALL, 0), (0, shifted.NARROW), (0, -1)):
        monkeypatch.setattr(shifted, "SMALL", small)
        monkeypatch.setattr(shifted, "NARROW", narrow)
        other = amplification(counts)
        near(plain.rho, other.rho, plain.rho_bound + other.rho_bound)
        near(plain.events, other.events, plain.events_bound + other.events_bound)
        near(plain.events_sd, other.events_sd, plain.events_sd_bound + other.events_sd_bound)
    assert waves.rows() == generations(counts).rows()
    storm = counts_of({"a": {"b b": 2, "": 1}, "b": {"a": 4, "": 1}})
    dense = amplification(storm)
    monkeypatch.setattr(shifted, "DENSE", 400)
    near(dense.dies_out, amplification(storm).dies_out, 1e-13)


@settings(deadline=None, max_examples=40)
@given(counts=tables())
def test_names_change_nothing(counts):
    first = amplification(counts)
    new = dict(zip("abcd", "zyxw", strict=True))

    def swap(text):
        return " ".join(sorted(new[word[0]] + word[1:] for word in text.split()))

    other = amplification(
        Counts(
            {(new[i], swap(s)): n for (i, s), n in counts.table.items()},
            {new[i]: n for i, n in counts.starts.items()},
        )
    )
    near(first.rho, other.rho, first.rho_bound + other.rho_bound)
    assert first.verdict == other.verdict
    near(first.dies_out, other.dies_out, first.dies_out_bound + other.dies_out_bound)
    assert isinf(first.events) == isinf(other.events)


def test_the_prior_sends_single_messages():
    graph = parse_graph("a -> b, c; b -> a; c -> a")
    alone = amplification(graph)
    assert not alone.fans_out
    assert alone.rho == 1.0
    counts = counts_of({"a": {"b c": 3}, "b": {"a": 1, "": 1}, "c": {"": 1}})
    # a: three events of both and one pseudo-event of one message, even; b: 1 and 1/2; c: 1 and a pseudo-event to a.
    law = offspring(estimate(counts, graph, prior=1.0))
    a, b, c = (law.chain.index[name] for name in "abc")
    M = law.mean.toarray()
    np.testing.assert_allclose(M[a], [0, 3.5 / 4, 3.5 / 4] if (a, b, c) == (0, 1, 2) else M[a])
    near(M[b, a], 2 / 3)
    near(M[c, a], 1 / 2)


def test_hostile_input():
    for wrong in (0, -1, 1.5, "many", None, float("nan"), float("inf")):
        with pytest.raises(AnalysisError, match="a whole number of at least 1"):
            amplification(counts_of({"a": {"": 1}}), top=wrong)
        if wrong != 0:
            with pytest.raises(AnalysisError, match="a horizon is a whole number of at least 0"):
                generations(counts_of({"a": {"": 1}}), horizon=wrong)
    assert len(amplification(counts_of({"a": {"a a": 1, "": 3}}), top=1e3).arrows.arrows) == 1
    with pytest.raises(ChainError, match="no node is called"):
        amplification(counts_of({"a": {"": 1}}), start="b")
    chain = estimate(counts_of({"a": {"a a": 1, "": 3}}))
    with pytest.raises(AnalysisError, match="they were changed"):
        amplification(replace(chain, P=chain.P / 2, stop=1 - (1 - chain.stop) / 2))
    one = amplification(Chain.from_matrix([[0.0]], stop=[1.0]))
    assert (one.rho, one.classes, one.events, one.dies_out) == (0.0, (), 1.0, 1.0)
    assert "no loop" in str(one)
    tiny = amplification(Chain.from_matrix([[1.0]], stop=[1e-280]))
    assert tiny.verdict == "dampens"
    assert (tiny.rho, tiny.classes[0].margin) == (1.0, 1e-280)
    trap = amplification(Chain.from_matrix([[1.0]]))
    assert (trap.verdict, trap.dies_out) == ("critical", 0.0)
    many = amplification(counts_of({"a": {"a*999999999999999": 1, "": 10**15}}))
    assert many.verdict == "dampens"
    many = amplification(counts_of({"a": {"a*999999999999999": 1, "": 10**12}}))
    assert many.verdict == "multiplies"
    assert 0 <= many.dies_out <= 1
    assert many.dies_out_bound < 1e-9
    line = amplification(counts_of({f"n{k}": {f"n{k + 1} n{k + 1}": 1} for k in range(3000)}))
    assert (line.events, line.dies_out, line.rho) == (None, 1.0, 0.0)
    assert "multiply from class to class" in line.reason
    for result in (one, tiny, many, line):
        assert "nan" not in str(result).lower()
        json.dumps(result.to_dict(), allow_nan=False)


def test_everything_is_in_the_frame():
    found = amplification(counts_of({"a": {"b b": 1, "": 2}, "b": {"a": 1}}))
    assert list(found.frame().columns) == list(found.columns)
    assert found.to_dict()["messages"][0]["node"] == "a"
    assert found.arrows.rows()[0]["residual"] < 1e-14
    assert "dampens" in str(found)
    assert "error bound" not in str(found)
