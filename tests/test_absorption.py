import json
from fractions import Fraction
from math import inf, sqrt
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowstat.analyze.absorption import Absorption, absorption
from flowstat.analyze.visits import visits
from flowstat.errors import AnalysisError, ChainError
from flowstat.estimate.chain import END, Chain
from tests.oracles import (
    LETTERS,
    chain_of,
    chains,
    fundamental,
    mean_agrees,
    pit,
    pit_runs,
    relabelled,
    share_agrees,
    shop,
    shop_runs,
    traps_of,
)


def chances(found: Absorption) -> dict[frozenset[str], float]:
    return {frozenset(o.nodes): o.probability for o in found.outcomes}


def ruin(p: Fraction, goal: int) -> Chain:
    """A gambler who wins a stake with chance p, between `0` (ruined) and `goal`."""
    rows: dict[str, dict[str, Fraction]] = {"0": {}, str(goal): {}}
    for k in range(1, goal):
        rows[str(k)] = {str(k + 1): p, str(k - 1): 1 - p}
    return chain_of(rows)


@pytest.mark.parametrize("goal", [2, 5, 12])
@pytest.mark.parametrize("p", [Fraction(1, 2), Fraction(1, 3), Fraction(3, 5)])
def test_gamblers_ruin(p: Fraction, goal: int) -> None:
    """Feller I, XIV.2-3: with s = q/p, ruin from k is (s^goal - s^k) / (s^goal - 1), and a game has
    k/(q-p) - goal/(q-p) (1 - s^k)/(1 - s^goal) bets; fair: 1 - k/goal, and k (goal - k). A run has one event more."""
    chain = ruin(p, goal)
    s = (1 - p) / p
    for k in range(1, goal):
        if s == 1:
            lost, bets = 1 - Fraction(k, goal), Fraction(k * (goal - k))
        else:
            lost = (s**goal - s**k) / (s**goal - 1)
            bets = k / (1 - 2 * p) - goal / (1 - 2 * p) * (1 - s**k) / (1 - s**goal)
        found = absorption(chain, str(k))
        assert chances(found) == pytest.approx({frozenset("0"): float(lost), frozenset([str(goal)]): float(1 - lost)})
        assert found.events == pytest.approx(float(bets + 1), rel=1e-13)


@pytest.mark.parametrize("goal", [2, 4, 9])
def test_the_length_of_a_fair_game_varies(goal: int) -> None:
    """A fair game from k has the variance k (N - k) (k^2 + (N - k)^2 - 2) / 3 of its length."""
    for k in range(1, goal):
        away = goal - k
        variance = Fraction(k * away * (k * k + away * away - 2), 3)
        assert absorption(ruin(Fraction(1, 2), goal), str(k)).events_sd == pytest.approx(sqrt(variance), abs=1e-12)


@pytest.mark.parametrize("p", [Fraction(1, 10), Fraction(1, 2), Fraction(99, 100)])
def test_a_retry_loop(p: Fraction) -> None:
    """Tries are geometric: 1/(1-p) on average with variance p/(1-p)^2; one event more ends the run."""
    chain = chain_of({"try": {"try": p, "ok": (1 - p) * Fraction(3, 4), "bad": (1 - p) / 4}, "ok": {}, "bad": {}})
    found = absorption(chain)
    assert [o.outcome for o in found.outcomes] == ["ok", "bad"]
    assert [o.probability for o in found.outcomes] == pytest.approx([0.75, 0.25], rel=1e-14)
    assert found.events == pytest.approx(float(1 / (1 - p) + 1), rel=1e-14)
    assert found.events_sd == pytest.approx(sqrt(p) / float(1 - p), rel=1e-13)
    seen = visits(chain).nodes
    assert seen[0].visits == pytest.approx(float(1 / (1 - p)))
    assert seen[0].again == pytest.approx(float(p))
    assert seen[0].variance == pytest.approx(float(p / (1 - p) ** 2), rel=1e-13)
    assert [v.variance for v in seen[1:]] == pytest.approx([0.75 * 0.25] * 2)
    assert [v.reached for v in seen] == pytest.approx([1, 0.75, 0.25])


def test_several_starts_and_a_start_in_a_loop() -> None:
    """From x in a loop x <-> y that is left from y with 1/3: y is visited 3 times, x 3 times from x and 2 from y."""
    chain = chain_of({"x": {"y": 1}, "y": {"x": Fraction(2, 3)}, "z": {}}, {"x": 0.25, "y": 0.5, "z": 0.25})
    found = absorption(chain)
    assert chances(found) == pytest.approx({frozenset("y"): 0.75, frozenset("z"): 0.25})
    assert found.events == pytest.approx(0.25 * 6 + 0.5 * 5 + 0.25)
    assert [v.visits for v in visits(chain).nodes] == pytest.approx([0.25 * 3 + 0.5 * 2, 0.75 * 3, 0.25])
    assert absorption(chain, "x").events == pytest.approx(6)


def test_traps() -> None:
    """From a: b with 1/2, ends with 1/4, stuck with 1/4; b and c hand the run to each other for ever."""
    chain = chain_of(
        {"a": {"b": 0.5, "stuck": 0.25}, "b": {"c": 1}, "c": {"b": 1}, "stuck": {"stuck": 1}, "far": {}}, "a"
    )
    found = absorption(chain)
    assert [(o.outcome, o.kind, o.probability) for o in found.outcomes] == [
        ("{b, c}", "trap", 0.5),
        ("a", "stop", 0.25),
        ("stuck", "trap", 0.25),
    ]
    assert (found.events, found.events_sd) == (inf, inf)
    assert "0.75" in str(found)
    seen = {v.node: v for v in visits(chain).nodes}
    assert (seen["b"].visits, seen["b"].reached, seen["b"].again) == (inf, 0.5, 1.0)
    assert (seen["b"].variance, seen["far"].variance) == (inf, 0.0)
    assert (seen["far"].visits, seen["far"].reached) == (0.0, 0.0)
    assert absorption(chain, "far").events == 1
    json.dumps([found.to_dict(), visits(chain).to_dict()], allow_nan=False)


def test_what_no_run_comes_to_says_nothing_about_its_length() -> None:
    chain = chain_of({"a": {"b": 1}, "b": {}, "lost": {"b": 0.5, "trap": 0.5}, "trap": {"trap": 1}}, "a")
    found = absorption(chain)
    assert (found.events, found.events_sd) == (2, 0)


@pytest.mark.parametrize("row", [{}, {"a": 1}])
def test_a_chain_of_one_state(row: dict[str, float]) -> None:
    found = absorption(chain_of({"a": row}))
    assert [(o.kind, o.probability) for o in found.outcomes] == [("trap" if row else "stop", 1.0)]
    assert found.events == (inf if row else 1)


def test_exits_that_one_minus_a_sum_would_lose() -> None:
    """Two states hand each other the flow, and let 3e-13 and 1e-13 of it go: from either it ends there in 3 : 1."""
    ends = {"a": 3e-13, "b": 1e-13}
    chain = chain_of({"a": {"b": 1 - 3e-13, END: ends["a"]}, "b": {"a": 1 - 1e-13, END: ends["b"]}})
    for start in "ab":
        found = absorption(chain, start)
        assert [o.probability for o in found.outcomes] == pytest.approx([0.75, 0.25], rel=1e-12)
        assert found.events == pytest.approx(2 / 4e-13, rel=1e-12)
        assert found.events_sd == pytest.approx(2 / 4e-13, rel=1e-9)


@pytest.mark.parametrize("tiny", [1e-17, 1e-100, 1e-200])
def test_a_state_that_is_hardly_ever_left(tiny: float) -> None:
    chain = chain_of({"a": {"a": 1.0, "b": tiny, "c": 3 * tiny, END: 0}, "b": {}, "c": {}})
    found = absorption(chain)
    assert chances(found) == pytest.approx({frozenset("b"): 0.25, frozenset("c"): 0.75}, rel=1e-14)
    assert found.events == pytest.approx(0.25 / tiny, rel=1e-14)
    assert found.events_sd == pytest.approx(0.25 / tiny, rel=1e-14)
    assert visits(chain, "a").nodes[0].visits == found.events


def test_chances_that_no_number_holds_are_refused() -> None:
    far = {"a": {"b": 1.0}, "b": {"a": 1.0, "c": 1e-200}, "c": {"b": 1.0, "d": 1e-200}, "d": {}}
    chain = chain_of({i: {**row, END: 0 if row else 1} for i, row in far.items()})
    for analysis in (absorption, visits):
        with pytest.raises(AnalysisError, match="can't be told from never"):
            analysis(chain)
    with pytest.raises(AnalysisError, match="can't be told from never"):
        absorption(chain_of({"a": {"a": 1.0, "b": 1e-300, END: 0}, "b": {}}))
    with pytest.raises(AnalysisError, match="overflow"):
        absorption(chain_of({"a": {"b": 1.0, END: 1e-280}, "b": {"b": 1.0, "a": 1e-280, END: 0}}))


@pytest.mark.parametrize("start", ["nobody", {"a": 0.5}, {"a": -1, "b": 2}, {"a": float("nan")}, {"a": "x"}])
def test_a_start_that_is_no_law(start: object) -> None:
    for analysis in (absorption, visits):
        with pytest.raises(ChainError):
            analysis(chain_of({"a": {"b": 1}, "b": {}}), start)  # type: ignore[operator]


@settings(max_examples=300)
@given(chains(traps=True))
def test_outcomes_and_visits_equal_the_fundamental_matrix(chain: Chain) -> None:
    found, seen = absorption(chain), {v.node: v for v in visits(chain).nodes}
    names, N, law = fundamental(chain)
    v = dict(zip(names, (law @ N).tolist(), strict=True))
    stop = dict(zip(chain.names, chain.stop.tolist(), strict=True))
    expected = {frozenset([name]): v[name] * stop[name] for name in names if stop[name] and v[name] > 1e-15}
    P, start = chain.to_networkx(), dict(zip(chain.names, chain.start.tolist(), strict=True))
    for trap in traps_of(chain):
        into = sum(v[i] * P[i][j]["share"] for i in names for j in P[i] if j in trap)
        if into + sum(start[j] for j in trap) > 1e-15:
            expected[trap] = into + sum(start[j] for j in trap)
        for j in trap:
            assert seen[j].reached == pytest.approx(expected.get(trap, 0), abs=1e-12)
            assert seen[j].visits == (inf if trap in expected else 0)
            assert seen[j].again == 1
    assert chances(found) == pytest.approx(expected, abs=1e-12)
    assert sum(o.probability for o in found.outcomes) == pytest.approx(1, abs=1e-13)
    assert all(0 < o.probability <= 1 for o in found.outcomes)
    for k, name in enumerate(names):
        assert seen[name].visits == pytest.approx(v[name], abs=1e-12)
        assert seen[name].variance == pytest.approx(v[name] * (2 * N[k, k] - 1 - v[name]), abs=1e-9 * N[k, k] ** 2)
        assert seen[name].reached == pytest.approx(v[name] / N[k, k], abs=1e-12)
        assert seen[name].again == pytest.approx(1 - 1 / N[k, k], abs=1e-12)
    if any(o.kind == "trap" for o in found.outcomes):
        assert (found.events, found.events_sd) == (inf, inf)
    else:
        mean = sum(v.values())
        square = law @ (2 * N - np.eye(len(N))) @ N.sum(axis=1)
        assert found.events == pytest.approx(mean, rel=1e-12)
        assert found.events_sd**2 == pytest.approx(square - mean * mean, abs=1e-9 * square)
    json.dumps([found.to_dict(), visits(chain).to_dict()], allow_nan=False)


@settings(max_examples=200)
@given(chains(traps=True), st.randoms(use_true_random=False))
def test_order_and_names_change_nothing(chain: Chain, random: Random) -> None:
    order = list(range(len(chain.names)))
    random.shuffle(order)
    names = dict(zip(LETTERS, "UVWXYZ", strict=True))
    other = relabelled(chain, order, names)
    expected = {frozenset(names[i] for i in nodes): p for nodes, p in chances(absorption(chain)).items()}
    assert chances(absorption(other)) == pytest.approx(expected, rel=1e-12)
    assert absorption(other).events == pytest.approx(absorption(chain).events, rel=1e-12)
    assert absorption(other).events_sd == pytest.approx(absorption(chain).events_sd, rel=1e-9, abs=1e-7)
    seen = {v.node: (v.visits, v.reached, v.again) for v in visits(other).nodes}
    for v in visits(chain).nodes:
        assert seen[names[v.node]] == pytest.approx((v.visits, v.reached, v.again), abs=1e-12)


def test_simulated_runs_end_alike() -> None:
    for runs in (shop_runs(), pit_runs()):
        last = runs.last()
        for outcome in absorption(runs.chain).outcomes:
            ended = np.isin(last, [runs.chain.index[i] for i in outcome.nodes]).sum()
            assert share_agrees(ended, runs.runs, outcome.probability)


def test_simulated_runs_are_as_long() -> None:
    found, lengths = absorption(shop()), (shop_runs().steps >= 0).sum(axis=0)
    assert mean_agrees(lengths, found.events)
    assert mean_agrees((lengths - found.events) ** 2, found.events_sd**2)


def test_simulated_runs_visit_alike() -> None:
    for runs in (shop_runs(), pit_runs()):
        for k, v in enumerate(visits(runs.chain).nodes):
            times = (runs.steps == k).sum(axis=0)
            if v.visits != inf:
                assert mean_agrees(times, v.visits)
                assert mean_agrees((times - v.visits) ** 2, v.variance)
                assert share_agrees((times > 0).sum(), runs.runs, v.reached)
                again = (times[times > 0] - 1).sum()
                assert share_agrees(again, times.sum(), v.again)


def test_results_show_themselves() -> None:
    for result in (absorption(shop()), absorption(pit()), visits(shop()), visits(pit()), Absorption((), 1.0, 0.0)):
        assert str(result).startswith(result.title)
        assert list(result.frame().columns) == list(result.columns)
        assert len(result.frame()) == len(result.rows())
        assert "<table>" in result._repr_html_()
        assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["type"] == type(result).__name__
