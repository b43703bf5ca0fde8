import json
from fractions import Fraction
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from scipy import sparse

from flowstat.analyze import solve
from flowstat.analyze.absorption import absorption
from flowstat.analyze.answers import Answer
from flowstat.analyze.sensitivity import Effect, Sensitivity, sensitivity
from flowstat.analyze.solve import Solver
from flowstat.analyze.timing import timing
from flowstat.errors import AnalysisError, ChainError
from flowstat.estimate.chain import END, Chain
from tests.oracles import chain_of, chains, relabelled, traps_of
from tests.test_bounds import dyadic, solution
from tests.test_timing import holds, lasting

STEP = Fraction(1, 10**14)
"""Of the differences, in fractions: a central one is off by its square, times a third derivative."""

ALL = 10**6


def table(chain: Chain) -> list[list[Fraction]]:
    """Return the shares of a chain in fractions, the stop last."""
    return [
        [*(Fraction(float(x)) for x in row), Fraction(float(s))]
        for row, s in zip(chain.P.toarray(), chain.stop, strict=True)
    ]


def value(chain: Chain, rows: list[list[Fraction]], answer: Answer, mean: dict[tuple[int, int], Fraction]) -> Fraction:
    """Return an answer in fractions, by its definition; rows need not sum to 1. The chain is as it was unchanged."""
    n = len(rows)
    nodes = [chain.index[node] for node in answer.nodes]
    closed = {chain.index[i] for trap in traps_of(chain) for i in trap}
    law = [Fraction(float(x)) for x in chain.start]
    if answer.kind == "stationary":
        # The left eigenvector of the class; its eigenvalue is 1 as long as rows sum to 1.
        states = sorted(chain.index[i] for t in traps_of(chain) if answer.nodes[0] in t for i in t)
        m = len(states)
        matrix = [[(a == b) - rows[states[b]][states[a]] for b in range(m)] for a in range(m)]
        matrix[-1] = [Fraction(1)] * m
        return solution(matrix, [Fraction(0)] * (m - 1) + [Fraction(1)])[states.index(nodes[0])]
    kind = answer.kind
    worth = [Fraction(0)] * n
    gone = set(closed)
    if kind in ("hit", "steps"):
        # Where the targets are, a run that is there is looked at no further: their class is left.
        gone = {chain.index[i] for t in traps_of(chain) if t.isdisjoint(answer.nodes) for i in t}.union(nodes)
    if kind == "hit":
        for i in nodes:
            worth[i] = Fraction(1)
    if kind == "chance" and nodes[0] in closed:
        for i in (chain.index[i] for t in traps_of(chain) if answer.nodes[0] in t for i in t):
            worth[i] = Fraction(1)
    keep = [i for i in range(n) if i not in gone]
    right = []
    for i in keep:
        gain = sum((rows[i][j] * worth[j] for j in gone), Fraction(0))
        if kind in ("events", "steps") or (kind == "visits" and i == nodes[0]):
            gain += 1
        if kind == "chance" and i == nodes[0]:
            gain += rows[i][n]
        if kind == "time":
            gain += sum(rows[i][j] * mean[i, j] for j in range(n + 1))
        right.append(gain)
    matrix = [[(i == j) - rows[i][j] for j in keep] for i in keep]
    for i, x in zip(keep, solution(matrix, right) if keep else [], strict=True):
        worth[i] = x
    return sum((p * x for p, x in zip(law, worth, strict=True)), Fraction(0))


def slopes(chain, answer, effect: Effect, mean) -> tuple[Fraction, Fraction]:
    """Return derivative and effect of one share by differences of fractions."""
    n, rows = len(chain.names), table(chain)
    i, j = chain.index[effect.source], chain.index.get(effect.target, n)
    found = []
    for moved in (False, True):
        sides = []
        for step in (STEP, -STEP):
            row = list(rows[i])
            if moved:
                left = sum(x for k, x in enumerate(row) if k != j)
                row = [x * (1 - step / left) if left else x for x in row]
                row[j] = rows[i][j] + step * (left > 0)
            else:
                row[j] += step
            sides.append(value(chain, [*rows[:i], row, *rows[i + 1 :]], answer, mean))
        found.append((sides[0] - sides[1]) / (2 * STEP))
    return found[0], found[1]


def asked(chain: Chain) -> list[Answer]:
    """Return answers to ask of a chain: of every kind, about its last and its alphabetically first node."""
    kinds = ("chance", "visits", "hit", "steps", "stationary")
    nodes = sorted({chain.names[-1], min(chain.names)})
    return [Answer("events"), Answer("time"), *(Answer(kind, (node,)) for kind in kinds for node in nodes)]


def compare(chain: Chain, answer: Answer, seed: int) -> int:
    """Hold every effect against differences of fractions; return how many there are."""
    known = lasting(chain, seed)
    names = [*chain.names, END]
    mean = {(i, j): Fraction(known[a, b][0]) for i, a in enumerate(chain.names) for j, b in enumerate(names)}
    found = sensitivity(chain, answer, top=ALL, latencies=known)
    if found.value == inf:
        assert found.effects == ()
        assert "inf" in str(found)
        return 0
    trapped = {i for trap in traps_of(chain) for i in trap}
    if answer.kind != "stationary" or answer.nodes[0] in trapped:
        assert holds(found.value, found.value_bound, value(chain, table(chain), answer, mean))
    slack = Fraction(1, 10**9)  # of the differences, where a third derivative is large
    for e in found.effects:
        if answer.kind == "stationary":
            if answer.nodes[0] not in trapped or e.source not in trapped:
                assert e.effect == 0
                continue
            if e.source not in next(t for t in traps_of(chain) if answer.nodes[0] in t):
                assert e.effect == 0
                continue
        if e.source in trapped and answer.kind not in ("stationary", "hit", "steps"):
            # What is done in a trap, once it is one, does not matter.
            assert e.effect == e.derivative == 0
            continue
        derivative, effect = slopes(chain, answer, e, mean)
        assert abs(Fraction(e.effect) - effect) <= Fraction(e.error_bound) + slack * max(1, abs(effect))
        if answer.kind != "stationary":
            assert abs(Fraction(e.derivative) - derivative) <= Fraction(e.derivative_bound) + slack * abs(derivative)
        if e.elasticity is not None:
            assert e.elasticity == pytest.approx(e.effect * e.share / found.value, rel=1e-12, abs=1e-300)
    return len(found.effects)


@given(chains(largest=4, traps=True))
@settings(max_examples=20)
def test_effects_are_differences_in_fractions(chain: Chain) -> None:
    for answer in asked(chain):
        compare(chain, answer, 1)


@pytest.mark.parametrize("largest", [1500, 1])
def test_differences_lie_within_the_bounds(monkeypatch: pytest.MonkeyPatch, largest: int) -> None:
    """Of chains with tiny shares; the differences are far more exact than the bounds."""
    monkeypatch.setattr(solve, "DENSE", largest)
    draw = np.random.default_rng(3)
    compared = 0
    for seed in range(12):
        chain = dyadic(draw)
        for answer in asked(chain):
            try:
                compared += compare(chain, answer, seed)
            except AnalysisError:
                assert largest == 1
    assert compared > 300


def test_a_retry_loop() -> None:
    """Events 1 / (1 - p): the derivative of p is 1 / (1 - p)^2, and so is the effect, as p alone is what is left."""
    chain = chain_of({"try": {"try": Fraction(3, 4)}})
    found = sensitivity(chain, "events")
    assert found.value == 4
    again, end = found.effects
    assert (again.target, again.effect, again.derivative, again.elasticity) == ("try", 16, 16, 3)
    assert (end.target, end.effect, end.derivative, end.elasticity) == (END, -16, 0, -1)
    assert found.error_bound < 1e-13
    assert "events is 4." in str(found)
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_chance_that_almost_nothing_is_left_of() -> None:
    """Of exits 3e-16 and 1e-16: the chance is 3/4, and one percent more of the one moves it by 1/4 percent."""
    chain = chain_of({"a": {"a": 1, "b": 3e-16, END: 1e-16}, "b": {}}, "a")
    found = {e.target: e for e in sensitivity(chain, "chance:b").effects if e.source == "a"}
    assert found["b"].elasticity == pytest.approx(0.25, rel=1e-13)
    assert found[END].elasticity == pytest.approx(-0.25, rel=1e-13)
    # The loop itself has no say in where it is left to, and that is known to its bound.
    assert abs(found["a"].effect) <= found["a"].error_bound


def test_a_long_run_share() -> None:
    """Of two nodes with chances p and q to move on: pi_a = q / (p + q)."""
    p, q = Fraction(1, 4), Fraction(1, 8)
    chain = chain_of({"a": {"b": p, "a": 1 - p}, "b": {"a": q, "b": 1 - q}})
    found = sensitivity(chain, "stationary:a")
    assert found.value == pytest.approx(1 / 3, rel=1e-15)
    effects = {(e.source, e.target): e.effect for e in found.effects}
    assert effects["a", "b"] == pytest.approx(float(-q / (p + q) ** 2), rel=1e-13)
    assert effects["b", "a"] == pytest.approx(float(p / (p + q) ** 2), rel=1e-13)
    other = sensitivity(chain_of({"a": {"b": 1}, "b": {"b": 1}}), "stationary:a")
    assert (other.value, other.error_bound) == (0, 0)
    assert "left for good" in str(other)


def test_effects_predict_small_changes() -> None:
    """Against the answers themselves: moving 1e-6 changes them by the effect, to second order."""
    draw = np.random.default_rng(8)
    P = sparse.random_array((30, 30), density=0.15, rng=draw).toarray()
    P *= 0.9 / np.maximum(P.sum(axis=1, keepdims=True), 1e-9)
    chain = Chain.from_matrix(P, start="0", stop=1 - P.sum(axis=1))
    outcome = absorption(chain).outcomes[0].outcome
    for answer in ("events", f"chance:{outcome}"):
        for e in sensitivity(chain, answer, top=5).effects:
            i, j = chain.index[e.source], chain.index.get(e.target)
            step, row, stop = 1e-6, P.copy(), chain.stop.copy()
            scale = 1 - step / (1 - e.share)
            row[i] *= scale
            stop[i] *= scale
            if j is None:
                stop[i] = e.share + step
            else:
                row[i, j] = e.share + step
            other = absorption(Chain.from_matrix(row, start="0", stop=stop))
            now, then = absorption(chain), other
            if answer == "events":
                change = then.events - now.events
            else:
                change = sum(
                    sign * o.probability
                    for sign, side in ((1, then), (-1, now))
                    for o in side.outcomes
                    if o.outcome == outcome
                )
            assert change / step == pytest.approx(e.effect, rel=1e-3, abs=1e-6)


def test_time_is_that_of_timing() -> None:
    chain = chain_of({"a": {"a": 0.5, "b": 0.25}, "b": {}})
    known = {("a", "a"): (2.0, 1.0), ("a", "b"): (1.0, 0.0)}
    found = sensitivity(chain, "time", latencies=known)
    assert found.value == pytest.approx(timing(chain, latencies=known).mean)
    assert found.effects[0].target == "a"
    with pytest.raises(AnalysisError, match="no latency is known"):
        sensitivity(chain, "time")


def test_names_and_order_do_not_matter() -> None:
    chain = chain_of({"a": {"b": 0.5, "c": 0.25}, "b": {"a": 0.125}, "c": {"c": 0.5, "a": 0.25}}, "a")
    names = {"a": "x", "b": "y", "c": "z"}
    one = {(names[e.source], names.get(e.target, e.target)): e.effect for e in sensitivity(chain, "events").effects}
    other = sensitivity(relabelled(chain, [2, 0, 1], names), "events")
    assert {(e.source, e.target): e.effect for e in other.effects} == pytest.approx(one)


def test_infinite_answers_and_rare_chances() -> None:
    chain = chain_of({"a": {"b": 0.5, "t": 0.5}, "b": {}, "t": {"t": 1}, "far": {"b": 1}}, "a")
    for answer in ("events", "visits:t", "steps:b"):
        found = sensitivity(chain, answer)
        assert (found.value, found.effects) == (inf, ())
    assert sensitivity(chain, "chance:t").value == 0.5
    assert sensitivity(chain, "hit:far").value == 0
    assert all(e.elasticity is None for e in sensitivity(chain, "hit:far").effects)
    assert "no run ends at a" in str(sensitivity(chain, "chance:a"))
    rare = Chain.from_matrix([[0.5, 1e-300], [0, 0]], ["a", "b"], "a", stop=[0.5, 1])
    # More of the way there is as much more of the chance; more of the end takes from b, and from the tries.
    found = {e.target: e.elasticity for e in sensitivity(rare, "chance:b").effects if e.source == "a"}
    assert found == pytest.approx({"b": 1, END: -2, "a": 0})
    one = Chain.from_matrix([[1.0]], ["a"])
    assert sensitivity(one, "stationary:a").value == 1
    assert [e.effect for e in sensitivity(one, "stationary:a").effects] == [0]


@pytest.mark.parametrize("answer", ["hit:try", "steps:try", "events", "chance:done"])
def test_no_number_is_minus_zero(answer: str) -> None:
    effects = sensitivity(chain_of({"try": {"try": 0.5, "done": 0.5}, "done": {}}, "try"), answer).effects
    assert "-0.0" not in [repr(x) for e in effects for x in (e.effect, e.elasticity, e.derivative)]


def test_several_targets_and_few_lines() -> None:
    chain = chain_of({"a": {"b": 0.5, "c": 0.25}, "b": {}, "c": {}})
    found = sensitivity(chain, Answer("hit", ("b", "c")), top=1)
    assert found.value == 0.75
    assert (len(found.effects), found.left_out) == (1, 4)
    assert "4 shares with less effect" in str(found)
    assert found.answer == "hit:b, c"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("speed", "is no answer"),
        ("chance", "of which node"),
        ("events:a", "without a node"),
        ("chance:z", "no node is called z|no node is called 'z'"),
        (Answer("visits", ("a", "b")), "one node at a time"),
    ],
)
def test_what_can_not_be_asked(answer: Answer | str, said: str) -> None:
    chain = chain_of({"a": {"b": 1}, "b": {}})
    with pytest.raises(AnalysisError, match=said):
        sensitivity(chain, answer)
    with pytest.raises(AnalysisError, match="at least one"):
        sensitivity(chain, "events", top=0)
    with pytest.raises(ChainError, match="no node is called"):
        sensitivity(chain, "events", "z")


def test_a_hub_of_many_ways() -> None:
    """20,000 ways out of one node: one pass, and effects that sum to nothing in proportion to the shares."""
    n = 20_000
    shares = np.full(n, 1 / n)
    P = sparse.csr_array((shares, (np.zeros(n, np.int64), np.arange(1, n + 1))), shape=(n + 1, n + 1))
    chain = Chain.from_matrix(P, start="0", stop=np.concatenate([[0], np.ones(n)]))
    found: Sensitivity = sensitivity(chain, "chance:7", top=n + 1)
    assert found.effects[0].target == "7"
    assert found.effects[0].effect == pytest.approx(n / (n - 1) * (1 - 1 / n), rel=1e-12)
    assert sum(e.effect * e.share for e in found.effects if e.source == "0") == pytest.approx(0, abs=1e-8)
    assert Solver(chain.P, chain.stop).n == n + 1
