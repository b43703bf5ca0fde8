import json
from fractions import Fraction
from itertools import accumulate
from math import ceil, expm1, inf, log, log1p, nextafter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowstat.analyze import exact_steps, quantile_search, stepping
from flowstat.analyze.hitting import hitting
from flowstat.analyze.quantiles import Quantiles, quantiles
from flowstat.errors import AnalysisError, ChainError
from flowstat.estimate.chain import END, Chain
from tests.oracles import chain_of, chains, pit, shop, shop_runs
from tests.test_bounds import dyadic
from tests.test_steps import step_by_step


def brackets(found: Quantiles) -> list[tuple[float, float]]:
    for q in found.quantiles:
        assert q.low <= q.high
        assert q.steps is None or q.low <= q.steps <= q.high
    return [(q.low, q.high) for q in found.quantiles]


@pytest.mark.parametrize(("few", "whole"), [(256, 4096), (0, 0)])
@pytest.mark.parametrize("limit", [None, 1, 7, 30])
def test_brackets_hold_the_exact_quantile(
    monkeypatch: pytest.MonkeyPatch, few: int, whole: int, limit: int | None
) -> None:
    """However early stepping ends."""
    monkeypatch.setattr(stepping, "FEW", few)
    monkeypatch.setattr(stepping, "WHOLE", whole)
    monkeypatch.setattr(stepping, "BLOCK", 4)
    monkeypatch.setattr(quantile_search, "BLOCK", 4)
    monkeypatch.setattr(quantile_search, "LONGEST", 20)
    rng = np.random.default_rng(8)
    horizon, bounded = 60, 0
    for k in range(60):
        chain = dyadic(rng)
        n = len(chain.names)
        inside = None if k % 2 else [int(rng.integers(n))]
        law, _ = step_by_step(chain, inside, horizon)
        sums = np.cumsum(law)
        shares = (0.03, 0.25, 0.5, 0.77, 0.99)
        found = quantiles(chain, None if inside is None else [chain.names[i] for i in inside], shares, "0", limit)
        for q, (low, high) in zip(shares, brackets(found), strict=True):
            reached = np.flatnonzero(sums >= Fraction(q))
            if len(reached):
                assert low <= reached[0] <= high
                bounded += high < inf
            else:
                assert high > horizon
    assert bounded > 100


@pytest.mark.parametrize("p", [0.9, 0.5, 1e-3, 1e-6, 4e-9, 1e-13, 1e-17, 1e-100])
@pytest.mark.parametrize("q", [1e-3, 0.3, 0.999])
def test_a_geometric_law(p: float, q: float) -> None:
    """The least t with 1 - (1 - p)^t >= q."""
    stay = float(1 - Fraction(p)) if p > 1e-16 else 1.0
    chain = chain_of({"try": {"try": stay, "ok": p, END: 0}, "ok": {}}, "try")
    [found] = quantiles(chain, "ok", q).quantiles
    right = log1p(-q) / log1p(-p)
    assert found.low - 1e-9 <= ceil(right) + 2e-12 * right
    assert ceil(right) - 2e-12 * right <= found.high
    assert found.steps == pytest.approx(right, rel=3e-6, abs=1)
    if p >= 1e-3 and q != p and (p, q) != (0.9, 0.999):
        # There a whole number of steps is the quantile exactly, which can't be told from a little less.
        assert found.low == found.high == ceil(right)


def test_two_states_that_hand_each_other_the_flow() -> None:
    """Of period 2, and left with 3e-13 and 1e-13: as if with 2e-13 at each step."""
    chain = chain_of({"a": {"b": 1 - 3e-13, END: 3e-13}, "b": {"a": 1 - 1e-13, END: 1e-13}}, "a")
    found = quantiles(chain)
    for q in found.quantiles:
        assert q.steps == pytest.approx(-log1p(-q.chance) / 2e-13, rel=1e-9)
        assert q.high - q.low < 1e-9 * q.low
    assert 0 < found.error_bound < 1e4


@pytest.mark.parametrize("period", range(2, 13))
def test_slow_rings(period: int) -> None:
    tiny = 2.0**-45
    ring: dict[str, dict[str, float]] = {str(k): {str((k + 1) % period): 1.0} for k in range(period)}
    ring["0"] = {"1" if period > 1 else "0": 1 - tiny, "out": tiny}
    chain = chain_of({**ring, "out": {}}, "0")
    [found] = quantiles(chain, "out", 0.5).quantiles
    right = period * log(2) / tiny
    assert found.low <= right + period
    assert right - period <= found.high
    assert found.high - found.low <= 1e-6 * right


def test_a_reflecting_walk() -> None:
    """Once it has settled, the rest of a slow passage is geometric: quantiles are the mean times log 2, next to."""
    n = 20
    P = np.zeros((n + 1, n + 1))
    for k in range(n):
        P[k, k + 1], P[k, max(0, k - 1)] = 0.1, 0.9
    P[n, n] = 1
    chain = Chain.from_matrix(P, start="0")
    [found] = quantiles(chain, str(n), 0.5).quantiles
    assert found.steps == pytest.approx(log(2) * hitting(chain, str(n)).start.mean, rel=1e-10)
    assert found.high - found.low < 1e-7 * found.low


def test_one_slow_loop_after_another() -> None:
    """After 1 / 2e-6 steps half of the runs end, the others come to a loop of 10^12 more."""
    chain = chain_of({"x": {"x": 1 - 2e-6, "a": 1e-6, END: 1e-6}, "a": {"a": 1 - 1e-12, END: 1e-12}}, "x")
    early, late = quantiles(chain, None, (0.25, 0.75)).quantiles
    assert early.low == early.high == ceil(log(2) / 2e-6)
    right = log(2) / 1e-12 + 1 / 2e-6
    assert late.steps == pytest.approx(right, rel=1e-8)
    assert late.low <= right <= late.high


def test_shares_that_are_never_reached() -> None:
    found = quantiles(pit(), "c", (0.1, 0.35, 0.39, 0.4, 0.9))
    assert [q.steps for q in found.quantiles] == [0, 1, 5, inf, inf]
    assert "infinite" in str(found)
    # 0.35 is the exact chance after a step: a little more is only reached with the third.
    assert brackets(found) == [(0, 0), (1, 1), (5, 5), (inf, inf), (inf, inf)]
    assert found.ties == ((0.35, 1, 3),)
    assert "as the numbers are stored it is reached with step 1; were they a rounding off, maybe with step 3" in str(
        found
    )
    nowhere = quantiles(pit(), "c", 1e-9, "ping")
    assert brackets(nowhere) == [(inf, inf)]
    assert nowhere.error_bound == 0
    trap = quantiles(chain_of({"a": {"a": 1}}))
    assert {q.steps for q in trap.quantiles} == {inf}
    at_once = quantiles(pit(), "c", start="c")
    assert {q.steps for q in at_once.quantiles} == {0}


@settings(max_examples=100)
@given(chains(traps=True), st.integers(1, 99))
def test_quantiles_turn_the_law_round(chain: Chain, percent: int) -> None:
    q = percent / 100
    [found] = quantiles(chain, None, q).quantiles
    P, x, stop = chain.P.toarray(), chain.start, chain.stop
    sums = [0.0]
    for _ in range(3000):
        sums.append(sums[-1] + x @ stop)
        x = x @ P
    if found.steps == inf:
        assert sums[-1] < q + 1e-9
    else:
        assert sums[int(found.high)] >= q - 1e-12
        assert found.low == 0 or sums[int(found.low) - 1] < q + 1e-12


def test_a_share_that_is_just_reached_or_never() -> None:
    """All of 0.3 get there with the second step, exactly; or, of a last bit more, never."""
    on = {key: {"t": 1.0} for key in "ab"}
    chain = chain_of({"x": {"a": 0.1, "b": 0.2, "c": 0.7}, **on, "c": {}, "t": {}}, "x")
    assert Fraction(0.1) + Fraction(0.2) > Fraction(0.3)
    below, above = quantiles(chain, "t", (0.3, nextafter(0.3, 1))).quantiles
    assert (below.steps, below.low, below.high) == (2, 2, 2)
    assert (above.steps, above.low, above.high) == (inf, inf, inf)
    found = quantiles(chain, "t", 0.3)
    assert found.ties == ((0.3, 2, inf),)
    assert "with step 2; were they a rounding off, maybe never" in str(found)


def test_a_share_that_is_come_closer_to_for_ever() -> None:
    """After t steps 1/2 - 2^-t get there: 1/2 never do, though no number tells it after the 53rd."""
    chain = chain_of({"x": {"x": 0.5, "a": 0.25, "b": 0.25}, "a": {}, "b": {}}, "x")
    found = quantiles(chain, "a", (0.25, 0.375, 0.5))
    assert brackets(found) == [(1, 1), (2, 2), (inf, inf)]
    assert "never; were they a rounding off, maybe with step" in str(found)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact_steps, "SOLVED", 0)
        [bounded] = quantiles(chain, "a", 0.5).quantiles
        assert bounded.steps is None
        assert bounded.low > 1000
        assert bounded.high == inf
        assert "steps or more, if ever" in str(quantiles(chain, "a", 0.5))
        patch.setattr(exact_steps, "ADDED", 0)
        [bounded] = quantiles(chain, "a", 0.5).quantiles
        assert 40 < bounded.low < 60
        assert bounded.high == inf


@pytest.mark.parametrize("seed", range(4))
def test_ties_are_told_exactly(seed: int) -> None:
    """A share that is the chance by some step, as far as a float holds it, or the float next to it."""
    rng = np.random.default_rng(seed)
    found = 0
    for _ in range(40):
        chain = dyadic(rng)
        n = len(chain.names)
        inside = None if rng.random() < 0.5 else [int(rng.integers(n))]
        law, _ = step_by_step(chain, inside, 70)
        sums = list(accumulate(law))
        for t in range(4):
            for share in (float(sums[t]), nextafter(float(sums[t]), 1), nextafter(float(sums[t]), 0)):
                if 0 < share < 1:
                    targets = None if inside is None else [chain.names[i] for i in inside]
                    [q] = quantiles(chain, targets, share, "0").quantiles
                    right = next((k for k, s in enumerate(sums) if s >= Fraction(share)), inf)
                    if right < inf:
                        assert q.low == q.high == q.steps == right
                        found += 1
                    else:
                        assert q.high > 70
    assert found > 100


def test_simulated_runs_agree() -> None:
    runs = shop_runs()
    length = np.sort((runs.steps >= 0).sum(axis=0))
    for q in quantiles(shop(), None, (0.2, 0.55, 0.92)).quantiles:
        assert length[int(q.chance * runs.runs)] == q.steps


def test_what_runs_have_left_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of loops, whose mass moves on: the same to the last step with and without what is left behind."""
    n = 300
    P = np.zeros((n, n))
    for k in range(n - 1):
        P[k, k], P[k, k + 1] = 0.5, 0.5
    chain = Chain.from_matrix(P, start="0", stop=np.eye(n)[-1])
    right = brackets(quantiles(chain))
    monkeypatch.setattr(stepping, "WHOLE", 0)
    assert brackets(quantiles(chain)) == right
    monkeypatch.setattr(stepping, "EMPTY", 1e-3)
    assert all(low <= a <= b <= high for (low, high), (a, b) in zip(brackets(quantiles(chain)), right, strict=True))


def test_questions_that_do_not_fit() -> None:
    for wrong in (0, 1, -0.1, float("nan")):
        with pytest.raises(AnalysisError, match="above 0 and below 1"):
            quantiles(pit(), "c", wrong)
    with pytest.raises(AnalysisError, match="a limit"):
        quantiles(pit(), "c", limit=0)
    with pytest.raises(AnalysisError, match="no node is called"):
        quantiles(pit(), "nobody")
    with pytest.raises(ChainError, match="no node is called"):
        quantiles(pit(), start="nobody")


def test_results_show_themselves() -> None:
    for result in (quantiles(pit(), "c", (0.1, 0.9)), quantiles(shop()), quantiles(shop(), None, ())):
        assert list(result.frame().columns) == list(result.columns)
        assert "<table>" in result._repr_html_()
        json.dumps(result.to_dict(), allow_nan=False)
    assert "A run ends with probability 1." in str(quantiles(shop()))


def test_a_rate_is_not_lost_in_the_share_to_stay() -> None:
    """2^50 steps are known to 1e-9: 1 minus the stored share to stay would be as good; 1e-17 next to 1 would not."""
    chain = chain_of({"a": {"a": 1.0, "b": 1e-17, END: 0}, "b": {}}, "a")
    [found] = quantiles(chain, "b", -expm1(-1.0)).quantiles
    assert found.steps == pytest.approx(1e17, rel=1e-9)
