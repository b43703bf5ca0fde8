import json
from decimal import Decimal, localcontext
from fractions import Fraction
from math import comb
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from flowstat.analyze import far_steps, solve, stepping, stepping_back
from flowstat.analyze.absorption import absorption
from flowstat.analyze.aim import aim_at
from flowstat.analyze.hitting import hitting
from flowstat.analyze.steps import steps, within
from flowstat.errors import AnalysisError, ChainError
from flowstat.estimate.chain import END, Chain
from tests.oracles import LETTERS, chain_of, chains, mean_agrees, pit, relabelled, share_agrees, shop, shop_runs
from tests.test_bounds import check, dyadic

WAYS = [(256, 4096), (0, 4096), (0, 0)]
"""Up to how many states powers are taken, and all states are stepped."""


def step_by_step(chain: Chain, inside: list[int] | None, horizon: int) -> tuple[list, list]:
    """Return P[T = t] from the first state, and P[T <= horizon] from every state, in fractions."""
    n = len(chain.names)
    P = [[Fraction(float(value)) for value in row] for row in chain.P.toarray()]
    stop = [Fraction(float(value)) for value in chain.stop]
    there = set(inside or ())
    last = stop if inside is None else [sum(P[i][j] for j in there) for i in range(n)]
    x = [Fraction(int(i == 0 and i not in there)) for i in range(n)]
    law = [Fraction(int(0 in there))]
    y = [Fraction(int(i in there)) for i in range(n)]
    for _ in range(horizon):
        law.append(sum(a * b for a, b in zip(x, last, strict=True)))
        x = [Fraction(0) if j in there else sum(x[i] * P[i][j] for i in range(n)) for j in range(n)]
        y = [
            y[i]
            if i in there
            else sum(p * v for p, v in zip(P[i], y, strict=True)) + (stop[i] if inside is None else 0)
            for i in range(n)
        ]
    return law, y


@pytest.mark.parametrize(("few", "whole"), WAYS)
@pytest.mark.parametrize("ends", [False, True])
def test_exact_answers_lie_within_the_bounds(monkeypatch: pytest.MonkeyPatch, few: int, whole: int, ends: bool) -> None:
    monkeypatch.setattr(stepping, "FEW", few)
    monkeypatch.setattr(stepping, "WHOLE", whole)
    monkeypatch.setattr(stepping, "BLOCK", 4)
    rng = np.random.default_rng(6)
    for _ in range(60):
        chain = dyadic(rng)
        n = len(chain.names)
        inside = None if ends else sorted(rng.permutation(n)[: int(rng.integers(1, 3))].tolist())
        targets = None if ends else [chain.names[i] for i in inside or ()]
        horizon = 22
        law, reached = step_by_step(chain, inside, horizon)
        found = steps(chain, targets, horizon)
        check([c.probability for c in found.chances], [c.probability_bound for c in found.chances], law)
        sums = np.cumsum(law)
        check([c.within for c in found.chances], [c.within_bound for c in found.chances], sums)
        bound = found.beyond_bound + found.never_bound
        check([found.beyond + found.never + 0.0], [1.01 * bound + 1e-15], [1 - sums[-1]])
        if inside is not None:
            ever = hitting(chain, targets or ()).start
            check(
                [found.beyond], [found.beyond_bound + ever.probability_bound], [Fraction(ever.probability) - sums[-1]]
            )
        near = within(chain, targets, horizon)
        check([s.probability for s in near.states], [s.probability_bound for s in near.states], reached)
        check([near.start.probability], [near.start.probability_bound], [sums[-1]])


@pytest.mark.parametrize("p", [Fraction(1, 2), Fraction(1, 10), Fraction(99, 100)])
def test_waiting_for_the_third_success(p: Fraction) -> None:
    """P[T = t] = C(t - 1, 2) p^3 (1 - p)^(t - 3)."""
    chain = chain_of({"0": {"1": p, "0": 1 - p}, "1": {"2": p, "1": 1 - p}, "2": {"3": p, "2": 1 - p}, "3": {}})
    found = steps(chain, "3", 300, "0")
    for c in found.chances:
        right = float(comb(c.steps - 1, 2) * p**3 * (1 - p) ** (c.steps - 3)) if c.steps > 2 else 0
        # Relatively, however small it is: nothing is subtracted.
        assert c.probability == pytest.approx(right, rel=1e-12)
    assert (found.reached, found.never) == (1, 0)
    assert found.error_bound < 1e-12
    assert steps(chain, None, 300, "0").chances[-1].probability == pytest.approx(found.chances[-2].probability)


@pytest.mark.parametrize("n", [2, 5, 12])
def test_periodic_chains(n: int) -> None:
    ring = {str(k): {str((k + 1) % n): Fraction(1)} for k in range(n)}
    found = steps(chain_of(ring), "0", 3 * n, "1")
    assert [c.probability for c in found.chances] == [float(t == n - 1) for t in range(3 * n + 1)]
    assert found.beyond == 0
    two = {**ring, "0": {"1": Fraction(1, 2)}}
    found = steps(chain_of(two), None, 4 * n, "0")
    assert [c.probability for c in found.chances[1:]] == [0.5 ** (t // n + 1) * (t % n == 0) for t in range(4 * n)]


def test_where_a_run_never_gets() -> None:
    found = steps(pit(), "c", 200)
    assert found.reached == pytest.approx(0.395)
    assert found.never == pytest.approx(0.605)
    assert found.chances[-1].within == pytest.approx(0.395)
    assert 0 < found.beyond < 1e-20
    none = steps(pit(), "c", 5, "ping")
    assert {c.within for c in none.chances} == {0}
    assert (none.reached, none.never, none.error_bound) == (0, 1, pytest.approx(0, abs=1e-280))
    assert steps(pit(), "c", 0, "c").chances[0][:3] == (0, 1, 1)
    trap = chain_of({"a": {"a": 1}})
    assert (steps(trap, horizon=3).never, steps(trap, horizon=3).chances[-1].within) == (1, 0)
    assert within(trap, steps=10**9).start.probability == 0


@settings(max_examples=150)
@given(chains(traps=True), st.integers(0, 30), st.booleans())
def test_all_ways_to_step_agree(chain: Chain, horizon: int, ends: bool) -> None:
    targets = None if ends else chain.names[:1]
    found = steps(chain, targets, horizon)
    assert found.chances[-1].within + found.beyond + found.never == pytest.approx(1, abs=1e-13)
    assert found.chances[-1].within == pytest.approx(within(chain, targets, horizon).start.probability, abs=1e-13)
    if not ends:
        assert found.reached == pytest.approx(hitting(chain, targets or ()).start.probability, abs=1e-13)
    else:
        stopped = sum(o.probability for o in absorption(chain).outcomes if o.kind == "stop")
        assert found.reached == pytest.approx(stopped, abs=1e-13)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stepping, "WHOLE", 0)
        patch.setattr(stepping, "STRETCH", 3)
        patch.setattr(solve, "DENSE", 1)
        other = steps(chain, targets, horizon)
        assert [c.probability for c in other.chances] == pytest.approx(
            [c.probability for c in found.chances], abs=1e-14
        )
        patch.setattr(stepping, "BLOCK", 2)
        other = steps(chain, targets, horizon)
        assert [c.probability for c in other.chances] == pytest.approx(
            [c.probability for c in found.chances], abs=1e-14
        )


@settings(max_examples=100)
@given(chains(traps=True), st.integers(0, 3000))
def test_doubling_is_stepping(chain: Chain, number: int) -> None:
    found = within(chain, chain.names[-1:], number)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stepping_back, "FEW", 0)
        slow = within(chain, chain.names[-1:], number)
    for at, there in zip(found.states, slow.states, strict=True):
        assert abs(at.probability - there.probability) <= at.probability_bound + there.probability_bound


@settings(max_examples=100)
@given(chains(traps=True), st.randoms(use_true_random=False))
def test_order_and_names_change_nothing(chain: Chain, random: Random) -> None:
    order = list(range(len(chain.names)))
    random.shuffle(order)
    names = dict(zip(LETTERS, "UVWXYZ", strict=True))
    target = random.choice(chain.names)
    found = steps(chain, target, 12)
    other = steps(relabelled(chain, order, names), names[target], 12)
    assert [c.within for c in other.chances] == pytest.approx([c.within for c in found.chances], abs=1e-14)


def test_a_long_line_moves_on() -> None:
    """Runs leave nodes behind and have not come to others: only where they may be is looked at."""
    n = 5000
    names = [f"n{k}" for k in range(n)]
    rows = np.arange(n - 1)
    P = sparse.csr_array((np.full(2 * n - 2, 0.5), (np.tile(rows, 2), np.concatenate([rows, rows + 1]))), shape=(n, n))
    chain = Chain.from_matrix(P, names, "n0", stop=np.eye(n)[-1])
    found = steps(chain, "n300", 700)
    for t in (300, 450, 600, 700):
        right = float(Fraction(comb(t - 1, 299), 2**t))
        assert found.chances[t].probability == pytest.approx(right, rel=1e-11)
    assert [s.probability for s in within(chain, "n300", 2).states][297:302] == [0, 0.25, 0.75, 1, 0]


def test_rare_and_slow() -> None:
    chain = chain_of({"a": {"a": 1 - 4e-9, "b": 4e-9, END: 0}, "b": {}})
    found = within(chain, "b", 10**9)
    assert found.start.probability == pytest.approx(-np.expm1(-4), abs=1e-6)
    check([found.start.probability], [found.start.probability_bound], [1 - still(4e-9, 10**9)])
    tiny = chain_of({"a": {"b": 1e-200, END: 1.0}, "b": {"c": 1e-200, END: 1.0}, "c": {}}, "a")
    assert steps(tiny, "b", 3).chances[1].probability == 1e-200
    c = steps(tiny, "c", 3).chances[2]
    assert c.probability == 0
    assert c.probability_bound < 1e-289


def still(rate: float, number: int) -> Fraction:
    """Return (1 - rate)^number to sixty digits."""
    with localcontext(prec=90):
        return Fraction((1 - Decimal(rate)) ** number)


@pytest.mark.parametrize("number", [10**6, 10**9, 10**12, 10**13, 10**15, 10**30])
def test_more_steps_than_can_be_taken(number: int) -> None:
    """Two states that hand each other the flow, loops left with 4e-9 and 1e-17: known to 1e-12 at any time."""
    for chain, right in (
        (
            chain_of({"a": {"b": 1 - 3e-13, END: 3e-13}, "b": {"a": 1 - 1e-13, END: 1e-13}}, "a"),
            1 - still(3e-13, (number + 1) // 2) * still(1e-13, number // 2),
        ),
        (chain_of({"a": {"a": 1 - 4e-9, END: 4e-9}}), 1 - still(4e-9, number)),
        (chain_of({"a": {"a": 1.0, "b": 1e-17, END: 0}, "b": {END: 1.0}}, "a"), 1 - still(1e-17, number - 1)),
    ):
        start = within(chain, None, number).start
        check([start.probability], [start.probability_bound], [right])
        assert start.probability_bound < 1e-12
        assert start.probability_bound < max(1e-9 * float(right), 1e-15)


def test_a_number_of_steps_beyond_all_floats() -> None:
    for chain in (chain_of({"a": {"a": 1.0, "b": 1e-280, END: 0}, "b": {END: 1.0}}, "a"), pit()):
        found = within(chain, "b" if "b" in chain.names else "c", 10**400)
        ever = hitting(chain, found.targets).start
        assert abs(found.start.probability - ever.probability) <= found.start.probability_bound + ever.probability_bound
        assert found.error_bound < 1e-14


@pytest.mark.parametrize("period", range(2, 13))
def test_slow_rings(period: int) -> None:
    tiny = 2.0**-45
    ring: dict[str, dict[str, float]] = {str(k): {str((k + 1) % period): 1.0} for k in range(period)}
    ring["0"] = {"1": 1 - tiny, "out": tiny}
    chain = chain_of({**ring, "out": {}}, "0")
    for number in (10**13, 10**14 + 5):
        found = within(chain, "out", number)
        rounds = [(number - (period - k) % period - 1) // period + 1 for k in range(period)]
        assert [s.state for s in found.states][:period] == [str(k) for k in range(period)]
        of_ring = list(found.states)[:period]
        right = [1 - still(tiny, r) for r in rounds]
        check([s.probability for s in of_ring], [s.probability_bound for s in of_ring], right)
        assert found.error_bound < 1e-12


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_leaps_hold_the_exact_answer(monkeypatch: pytest.MonkeyPatch, ends: bool, seed: int) -> None:
    """However soon it is leapt, and whatever is left out."""
    for module, name, value in (
        (far_steps, "BLOCK", 1 + seed),
        (far_steps, "FEWER", 2),
        (far_steps, "LEFT_OUT", (1e-17, 1e-3, 0.1)[seed]),
    ):
        monkeypatch.setattr(module, name, value)
    rng = np.random.default_rng(seed)
    narrow = leapt = 0
    for _ in range(60):
        chain = dyadic(rng)
        n = len(chain.names)
        inside = None if ends else sorted(rng.permutation(n)[: int(rng.integers(1, 3))].tolist())
        horizon = int(rng.integers(8, 60))
        _, exact = step_by_step(chain, inside, horizon)
        found = far_steps.far_within(aim_at(chain, None if ends else [chain.names[i] for i in inside or ()]), horizon)
        if found is not None:
            leapt += 1
            check(found.values, found.bound, exact)
            narrow += bool(found.bound.max() < 1e-3)
    assert leapt > 30
    assert narrow > 5


def test_what_has_no_shape_yet_is_not_leapt_over() -> None:
    """One slow loop after another, and how far the rest has come depends on both."""
    chain = chain_of({"x": {"x": 1 - 2e-6, "a": 1e-6, END: 1e-6}, "a": {"a": 1 - 1e-12, END: 1e-12}}, "x")
    with pytest.raises(AnalysisError, match="too many for the chance to be known to 1e-06: ask for fewer, for quantil"):
        within(chain, None, 10**12)
    assert within(chain, None, 10**6).start.probability_bound < 1e-9
    assert within(chain, None, 10**16).start.probability == pytest.approx(1 - np.exp(-1e4) / 2, abs=1e-6)


def test_a_large_fast_chain_is_soon_there() -> None:
    """No step is taken that could not change anything."""
    n = 30_000
    P = sparse.diags_array(np.full(n - 1, 0.5), offsets=1).tocsr() + sparse.diags_array(np.full(n, 0.25)).tocsr()
    stop = np.append(np.full(n - 1, 0.25), 0.75)
    found = within(Chain.from_matrix(P, start="0", stop=stop), None, 10**9)
    assert found.start.probability == pytest.approx(1.0, abs=1e-14)
    assert found.error_bound < 1e-14


@pytest.mark.parametrize("cores", [1, 3])
def test_compiled_steps_are_the_same(monkeypatch: pytest.MonkeyPatch, cores: int) -> None:
    n = 300
    rng = np.random.default_rng(7)
    weights = sparse.random_array((n, n), density=0.02, rng=rng, format="csr") + sparse.eye_array(n, format="csr")
    stop = rng.random(n)
    sums = weights.sum(axis=1) + stop
    chain = Chain.from_matrix(sparse.diags_array(1 / sums) @ weights, start="0", stop=stop / sums)
    plain = [within(chain, targets, number) for targets in (None, "5") for number in (1, 6, 200, 3000)]
    monkeypatch.setattr(stepping_back, "WORTH", 0)
    monkeypatch.setattr(stepping_back, "SHARED", 0)
    monkeypatch.setattr(stepping_back, "CORES", cores)
    monkeypatch.setattr(stepping_back.os, "cpu_count", lambda: 8)
    fast = [within(chain, targets, number) for targets in (None, "5") for number in (1, 6, 200, 3000)]
    for one, other in zip(plain, fast, strict=True):
        assert list(one.states) == list(other.states)
    monkeypatch.setattr(stepping_back, "_compiled", lambda: None)
    assert list(within(chain, None, 200).states) == list(plain[2].states)


def test_simulated_runs_agree() -> None:
    runs, chain = shop_runs(), shop()
    length = (runs.steps >= 0).sum(axis=0)
    found = steps(chain, None, 30)
    for c in found.chances[1:12]:
        assert share_agrees((length == c.steps).sum(), runs.runs, c.probability)
    there = runs.steps == chain.index["wait"]
    times = np.where(there.any(axis=0), there.argmax(axis=0), 10**6)
    for k in (1, 3, 8):
        assert share_agrees((times <= k).sum(), runs.runs, within(chain, "wait", k).start.probability)
    assert mean_agrees(length, absorption(chain).events)


def test_questions_that_do_not_fit() -> None:
    for wrong in (-1, 1.5):
        with pytest.raises(AnalysisError, match="a number of steps"):
            steps(pit(), "c", wrong)  # type: ignore[arg-type]
        with pytest.raises(AnalysisError, match="a number of steps"):
            within(pit(), "c", wrong)  # type: ignore[arg-type]
    with pytest.raises(AnalysisError, match="at least one node"):
        steps(pit(), ())
    with pytest.raises(ChainError, match="no node is called"):
        within(pit(), "c", start="nobody")


def test_results_show_themselves() -> None:
    for result in (steps(pit(), "c", 4), within(pit(), "c", 4), steps(pit(), horizon=0), within(shop(), steps=0)):
        assert "bound" not in str(result)
        assert list(result.frame().columns) == list(result.columns)
        assert "<table>" in result._repr_html_()
        json.dumps(result.to_dict(), allow_nan=False)
        assert result.error_bound < 1e-13
    assert "A run comes to c within 4 steps" in str(steps(pit(), "c", 4))
    assert "A run ends within 4 steps" in str(within(pit(), steps=4))
