"""Chains on which plain arithmetic fails: right to 1e-13 relative, within the bound that is stated, whichever way."""

from __future__ import annotations

import pytest

from flowstat.analyze import banded, solve
from flowstat.analyze.absorption import absorption
from flowstat.analyze.classes import classes
from flowstat.analyze.hitting import hitting
from flowstat.analyze.stationary import stationary
from flowstat.analyze.visits import visits
from flowstat.errors import AnalysisError, ChainError
from flowstat.estimate.chain import Chain
from tests.hard_chains import HARD, TWO_TRAPS, Hard, relative

CLOSE = 1e-13


def answer(case: Hard) -> tuple[float, float]:
    """Return flowstat's answer and its bound."""
    chain = case.chain()
    if case.question == "chance":
        for outcome in absorption(chain).outcomes:
            if case.goal in outcome.nodes:
                return outcome.probability, outcome.error_bound
        found = hitting(chain, case.goal).start
        return found.probability, found.probability_bound
    if case.question == "events":
        ends = absorption(chain)
        return ends.events, ends.events_bound
    if case.question == "visits":
        [at] = (node for node in visits(chain).nodes if node.node == case.goal)
        return at.visits, at.visits_bound
    if case.question == "steps":
        start = hitting(chain, case.goal).start
        assert start.mean is not None
        return start.mean, start.mean_if_hit_bound
    [row] = (row for row in stationary(chain).rows() if row["node"] == case.goal)
    return row["law"], row["law_bound"]


@pytest.mark.parametrize("way", ["dense", "compiled", "large"])
@pytest.mark.parametrize("case", HARD, ids=lambda case: case.name)
def test_a_hard_chain(monkeypatch: pytest.MonkeyPatch, case: Hard, way: str) -> None:
    if way == "compiled":
        monkeypatch.setattr(solve, "COMPILED", 0)
    elif way == "large":
        monkeypatch.setattr(solve, "DENSE", 1)
    value, bound = answer(case)
    assert relative(value, case.exact) <= CLOSE
    assert abs(value - case.exact) <= bound + 3 * len(case.table) * 2**-53 * case.exact
    assert bound <= 1e-10 * value


@pytest.mark.parametrize("case", HARD, ids=lambda case: case.name)
def test_without_a_band_it_is_right_or_refused(monkeypatch: pytest.MonkeyPatch, case: Hard) -> None:
    monkeypatch.setattr(solve, "DENSE", 1)
    monkeypatch.setattr(banded, "NARROW", -1)
    try:
        value, bound = answer(case)
    except AnalysisError:
        return
    assert abs(value - case.exact) <= bound + 3 * len(case.table) * 2**-53 * case.exact


def test_the_ends_of_hard_chains_are_told() -> None:
    almost = next(case for case in HARD if case.name == "self-loop, exit 4e-9").chain()
    assert [(o.outcome, o.kind) for o in absorption(almost).outcomes] == [("a", "stop")]
    [one] = classes(almost).classes
    assert one.kind == "transient"
    traps = Hard("", TWO_TRAPS, "chance", "start", "c", 0).chain()
    assert [(o.outcome, o.kind, o.probability) for o in absorption(traps).outcomes] == [
        ("{c, d}", "trap", 0.7),
        ("{a, b}", "trap", 0.3),
    ]


@pytest.mark.parametrize("period", range(2, 13))
def test_periods_are_told(period: int) -> None:
    [ring] = (case for case in HARD if case.name == f"period {period}")
    [found] = classes(ring.chain()).classes
    assert (found.kind, found.period) == ("closed", period)
    [law] = stationary(ring.chain()).classes
    assert law.period == period
    assert law.phases == (1.0, *[0.0] * (period - 1))


def test_rows_have_to_sum_to_one() -> None:
    with pytest.raises(ChainError, match=r"1e-05|0\.99999"):
        Chain.from_matrix([[0.5, 0.49999], [0, 1]])
