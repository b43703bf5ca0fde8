"""Properties under data: how often verdicts are right, how many more runs tell, and formulas within others."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from math import inf, sqrt

import numpy as np
import pytest
from scipy import stats

import flowstat as fs
from flowstat.analyze.closing import closed_chain
from flowstat.analyze.spread import Spread, data_factor, interval
from flowstat.analyze.until import Until
from flowstat.analyze.until_time import TimedUntil
from flowstat.estimate.chain import Chain, estimate
from flowstat.estimate.counts import Counts
from flowstat.estimate.latency import Latency
from flowstat.explain.check import check
from flowstat.explain.checking import MOST_STATES
from tests.oracles import Simulated, shop, simulate

GRAPH = fs.parse_graph(
    "order -> check, wait; check -> check, pay; pay -> pay, ship, wait; wait -> pay, check; ship -> check, done;"
)


def counted(simulated: Simulated, runs: slice) -> Counts:
    """Return the counts of some of the runs."""
    names = simulated.chain.names
    n = len(names)
    steps = simulated.steps[:, runs].astype(np.int64)
    ended = np.full((1, steps.shape[1]), -1)
    now, then = steps, np.concatenate([steps[1:], ended])
    pairs = np.bincount((now * (n + 1) + then + 1)[now >= 0], minlength=n * (n + 1)).reshape(n, n + 1)
    table = {
        (names[i], names[j - 1] if j else ""): int(pairs[i, j]) for i in range(n) for j in range(n + 1) if pairs[i, j]
    }
    starts = Counter(names[i] for i in steps[0].tolist())
    return Counts(table, dict(starts))


ASKED = (
    'P=? [ F "ship" ]',
    'P=? [ F<=4 "ship" ]',
    'P=? [ !"wait" U "done" ]',
    'P=? [ G !"wait" ]',
    'P=? [ F[2,5] "pay" ]',
    'R=? [ F "end" ]',
)


def test_intervals_have_the_truth_within_them_as_often_as_they_say() -> None:
    sets, runs = 200, 300
    played = simulate(shop(), 5, sets * runs)
    truth = [c.value for c in check(shop(), ASKED).checks]
    inside = np.zeros(len(ASKED))
    for k in range(sets):
        counts = counted(played, slice(k * runs, (k + 1) * runs))
        found = check(estimate(counts, GRAPH, prior=0.5), ASKED)
        assert found.runs == runs
        inside += [c.low <= true <= c.high for c, true in zip(found.checks, truth, strict=True)]
    shares = inside / sets
    # Four standard errors of what 95% is.
    assert (np.abs(shares - 0.95) < 4 * sqrt(0.95 * 0.05 / sets)).all(), dict(zip(ASKED, shares, strict=True))


def test_verdicts_are_seldom_wrong_where_the_truth_is_next_to_the_bound() -> None:
    sets, runs = 150, 200
    played = simulate(shop(), 6, sets * runs)
    truth = check(shop(), 'P=? [ F "ship" ]').checks[0].value
    asked = [f'P>={truth + 1e-6} [ F "ship" ]', f'P<{truth - 1e-6} [ F "ship" ]']
    wrong = 0
    for k in range(sets):
        chain = estimate(counted(played, slice(k * runs, (k + 1) * runs)), GRAPH, prior=0.5)
        wrong += "holds" in [c.verdict for c in check(chain, asked).checks]
    # Both sides of the interval together.
    assert wrong / sets < 0.05 + 4 * sqrt(0.05 * 0.95 / sets)


def scaled(counts: Counts, factor: float) -> Counts:
    """Return counts that are so many times as many."""
    table, starts = ({key: round(n * factor) for key, n in of.items()} for of in (counts.table, counts.starts))
    return Counts(table, starts)


@pytest.mark.parametrize(
    "text", ['P>=0.58 [ F "ship" ]', 'P<=0.63 [ F "ship" ]', 'R<=4.5 [ F "end" ]', 'P<0.5 [ F<=4 "ship" ]']
)
def test_so_many_more_runs_do_tell(text: str) -> None:
    counts = counted(simulate(shop(), 7, 400), slice(0, 400))
    # What a prior adds would move the number as the data grow.
    found = check(estimate(counts, GRAPH, prior=1e-6), text)
    [one] = found.checks
    assert found.holds is None
    assert one.verdict == "cannot tell"
    assert one.more_runs is not None
    more = scaled(counts, 1 + 1.1 * one.more_runs / 400)
    assert check(estimate(more, GRAPH, prior=1e-6), text).holds is not None
    fewer = scaled(counts, 1 + 0.5 * one.more_runs / 400)
    assert check(estimate(fewer, GRAPH, prior=1e-6), text).holds is None


def test_on_the_bound_no_data_tell() -> None:
    graph = fs.parse_graph("try -> ok, lost;")
    counts = Counts({("try", "ok"): 500, ("try", "lost"): 500, ("ok", ""): 500, ("lost", ""): 500}, {"try": 1000})
    found = check(estimate(counts, graph), ['P>=0.5 [ F "ok" ]', 'P>=1 [ F "end" ]', 'P>0 [ F "lost" ]'])
    assert [c.verdict for c in found.checks] == ["cannot tell", "holds", "holds"]
    assert found.checks[0].more_runs is None
    assert "no number of runs would tell" in found.checks[0].reason
    # Where there are no runs, only events, data are what is told of.
    found = check(estimate(Counts(counts.table), graph, prior=0), 'P>=0.49 [ F "ok" ]', start="try")
    assert found.checks[0].more_runs is None
    assert "times as much data would tell" in found.checks[0].reason


def test_a_node_of_the_prior_alone_leaves_all_open() -> None:
    graph = fs.parse_graph("try -> ok, odd @0.01; odd -> ok, lost;")
    counts = Counts({("try", "ok"): 50, ("ok", ""): 50}, {"try": 50})
    [found] = check(estimate(counts, graph), 'P<=0.4 [ "odd" U "lost" ]', start="odd").checks
    assert found.verdict == "cannot tell"
    assert found.low == 0 or found.low < 0.05
    assert found.high == 1 or found.high > 0.95
    # Without a prior what was never seen is taken to be impossible, and that is said.
    sure = check(estimate(counts, graph, prior=0), 'P>=1 [ F "ok" ]')
    assert sure.holds is True
    assert "prior is 0" in " ".join(sure.notes())


def nested() -> tuple[fs.Graph, Counts]:
    """Return data on a hub with three shops: one is good, one is bad, of one little is known."""
    graph = fs.parse_graph("hub -> good, bad, new; good -> ok, lost; bad -> ok, lost; new -> ok, lost;")
    table = {
        ("hub", "good"): 5000,
        ("hub", "bad"): 4000,
        ("hub", "new"): 40,
        ("good", "ok"): 4900,
        ("good", "lost"): 100,
        ("bad", "ok"): 2000,
        ("bad", "lost"): 2000,
        ("new", "ok"): 37,
        ("new", "lost"): 3,
        ("ok", ""): 6937,
        ("lost", ""): 2103,
    }
    return graph, Counts(table, {"hub": 9040})


def test_what_is_inside_and_can_not_be_told_counts_where_it_matters() -> None:
    graph, counts = nested()
    chain = estimate(counts, graph)
    good = 'P>=0.9 [ X "ok" ]'
    found = check(
        chain,
        [
            f'P>=0.5 [ F ("good" | "bad" | "new") & {good} ]',
            f'P>=0.5551 [ F ("good" | "bad" | "new") & {good} ]',
            f"P<0.53 [ X {good} ]",
            f"P=? [ X {good} ]",
            f'P>=1 [ G ("new" => {good}) ]',
            f'P>=1 [ G ("good" => {good}) ]',
            f'P>=1 [ G ("bad" => {good}) ]',
            'P<=0 [ X "new" & R<=0.5 [ F "end" ] ]',
        ],
    ).checks
    verdicts = [c.verdict for c in found]
    assert verdicts == [
        "holds",
        "cannot tell",
        "fails",
        "answered",
        "cannot tell",
        "holds",
        "fails",
        "holds",
    ]
    assert "can't be told at new" in found[4].reason
    assert found[4].more_runs is not None
    assert found[4].more_runs > 9040
    # Its number is one of an answer: all between the one without the new shop and the one with it.
    assert found[3].low < 5000 / 9040 < 5040 / 9040 < found[3].high
    assert "can't be told at new" in found[3].reason
    # As the data go on as they are, it is told.
    more = scaled(counts, 1 + 1.1 * found[4].more_runs / 9040)
    assert check(estimate(more, graph), f'P>=1 [ G ("new" => {good}) ]').holds is True


def test_all_decisions_share_the_doubt() -> None:
    graph, counts = nested()
    chain = estimate(counts, graph)
    alone = check(chain, 'P=? [ X "good" ]').checks[0]
    both = check(chain, 'P>=0.5 [ X "good" ] & P>=0.5 [ X "good" ]')
    assert both.holds is True
    within = check(chain, 'P=? [ X "good" & P>=0.5 [ X "ok" ] ]').checks[0]
    assert within.high - within.low > 1.2 * (alone.high - alone.low)
    # A bound of 0 or 1 is told by the graph, and costs nothing.
    certain = check(chain, 'P=? [ X "good" & P>0 [ X "ok" ] ]').checks[0]
    assert (certain.low, certain.high) == (alone.low, alone.high)


def test_too_many_nodes_for_a_formula_within_another() -> None:
    n = MOST_STATES + 1
    names = [f"n{k}" for k in range(n)]
    table = dict.fromkeys(pairwise(names), 2) | {(names[-1], ""): 2}
    chain = estimate(Counts(table, {"n0": 2}))
    with pytest.raises(fs.AnalysisError, match=r"at most 3,000"):
        check(chain, 'P>=0.5 [ F P>=0.5 [ X "n7" ] ]')
    assert check(chain, 'P>=0.5 [ F P>=1 [ X "n7" ] ]').holds is True


def test_fan_out_is_one_lineage_and_said() -> None:
    graph = fs.parse_graph("ship -> notify, invoice;")
    counts = Counts({("ship", "invoice notify"): 100, ("notify", ""): 100, ("invoice", ""): 100}, {"ship": 100})
    found = check(estimate(counts, graph, prior=0), 'P>=0.5 [ X "notify" ]')
    # Which of both is chance, but the half of it is known.
    assert found.holds is True
    assert any("one lineage" in note for note in found.notes())


def test_the_variance_is_that_of_drawn_chains() -> None:
    counts = counted(simulate(shop(), 8, 500), slice(0, 500))
    chain = estimate(counts, GRAPH)
    closed = closed_chain(chain, chain.start)
    spread = Spread.of(chain, closed)
    assert spread is not None
    draw = np.random.default_rng(1)
    values: dict[str, list[float]] = {text: [] for text in ASKED}
    for _ in range(200):
        # A gamma for each send pattern; all of them are single messages here.
        amounts = draw.gamma(np.maximum(spread.share * spread.weight[spread.node], 1e-300))
        totals = np.bincount(spread.node, amounts, len(chain.names))
        shares = spread.targets.T @ (amounts / totals[spread.node])
        P = closed.P.copy()
        P.data[: len(shares) - 1] = shares[:-1]
        law = draw.gamma([max(1e-300, counts.starts.get(name, 0)) for name in chain.names])
        n = len(chain.names)
        stop = np.asarray(P[:n, [n]].todense()).ravel()
        drawn = Chain(chain.names, P[:n, :n].tocsr(), stop, law / law.sum())
        for text in ASKED:
            values[text].append(check(drawn, text).checks[0].value or 0.0)
    for text, sample in values.items():
        one = check(chain, text).checks[0]
        assert one.low is not None
        assert one.high is not None
        # Of 200 draws a deviation is known to 5%, and the middle to 7% of it.
        assert (one.high - one.low) / (2 * 1.96) == pytest.approx(np.std(sample), rel=0.2), text
        assert one.value == pytest.approx(np.mean(sample), abs=0.3 * np.std(sample)), text


def latency(draw: np.random.Generator, n: int, mean: float) -> Latency:
    return Latency.of([int(x) for x in draw.gamma(2, mean / 2 * 1e9, n)])


def timed(counts: Counts, seed: int = 3) -> Counts:
    """Return counts with latencies of all pairs."""
    draw = np.random.default_rng(seed)
    known = {pair: latency(draw, n, 0.2 + 0.1 * k) for k, (pair, n) in enumerate(counts.messages.items())}
    return Counts(counts.table, counts.starts, latencies=known)


def test_a_chance_in_time_hangs_on_shares_and_latencies() -> None:
    counts = timed(counted(simulate(shop(), 9, 400), slice(0, 400)))
    chain = estimate(counts, GRAPH)

    def until(of: Chain, failing: bool = False) -> TimedUntil:
        closed = closed_chain(of, of.start)
        right = np.zeros(len(closed.names), bool)
        right[of.index["ship"]] = True
        return TimedUntil(of, Until(closed, np.ones(len(right), bool), right, failing=failing), 1.5)

    def middle(of: Chain) -> float:
        return sum(until(of).range) / 2

    base = middle(chain)
    closed = closed_chain(chain, chain.start)
    spread = Spread.of(chain, closed)
    assert spread is not None
    found = until(chain).variance(spread)
    # One share moved at a time, and one latency's law drawn anew, add up to the same.
    expected = 0.0
    for i, name in enumerate(chain.names):
        own = np.flatnonzero(spread.node == i)
        gradient = []
        for k in own:
            mixed = spread.share.copy()
            mixed[own] *= 1 - 1e-3
            mixed[k] += 1e-3
            shares = spread.targets.T @ mixed
            n = len(chain.names)
            P = closed.P.copy()
            P.data[:-1] = shares[:-1]
            stop = np.asarray(P[:n, [n]].todense()).ravel()
            moved = Chain(chain.names, P[:n, :n].tocsr(), stop, chain.start, counts, GRAPH, 1.0)
            gradient.append((middle(moved) - base) / 1e-3)
        y, p = np.array(gradient), spread.share[own]
        assert len(own), name
        expected += float(p @ y**2 - (p @ y) ** 2) / (spread.weight[i] + 1)
    drawn = []
    draw = np.random.default_rng(4)
    for _ in range(30):
        again = {}
        for pair, of in counts.latencies.items():
            buckets = list(of.buckets)
            number = draw.multinomial(of.number, np.array(list(of.buckets.values())) / of.number)
            again[pair] = Latency.of(
                [int(1.02 ** (b - 0.5)) for b, k in zip(buckets, number, strict=True) for _ in range(k)]
            )
        other = Counts(counts.table, counts.starts, latencies=again)
        drawn.append(middle(Chain(chain.names, chain.P, chain.stop, chain.start, other, GRAPH, 1.0)))
    expected += float(np.var(drawn))
    # And where runs start.
    worth = [
        middle(Chain(chain.names, chain.P, chain.stop, law, counts, GRAPH, 1.0)) for law in np.eye(len(chain.names))
    ]
    expected += float(chain.start @ (np.array(worth) - base) ** 2) / (counts.runs + 1)
    assert found == pytest.approx(expected, rel=0.15)


def test_data_factors() -> None:
    for value, deviation, bound in ((0.9, 0.03, 0.88), (0.2, 0.05, 0.21), (0.5, 0.2, 0.9)):
        factor = data_factor(value, deviation, bound, 0.95, "chance")
        low, high = interval(value, deviation / sqrt(factor * 1.0001), 0.95, "chance")
        assert not low <= bound <= high
        if factor > 1:
            low, high = interval(value, deviation / sqrt(factor * 0.999), 0.95, "chance")
            assert low <= bound <= high
    assert data_factor(0.5, 0.1, 0.5, 0.95, "chance") == inf
    assert data_factor(3.0, 0.5, 3.2, 0.95, "amount") > 1


def test_intervals_stay_in_range_and_have_their_number_within() -> None:
    draw = np.random.default_rng(2)
    for _ in range(500):
        value, level = float(draw.random()) ** 4, float(draw.uniform(0.5, 0.9999))
        deviation = 10 ** float(draw.uniform(-8, 0))
        low, high = interval(value, deviation, level, "chance")
        assert 0 <= low <= value <= high <= 1
        low, high = interval(10 * value, deviation, level, "amount")
        assert 0 <= low <= 10 * value <= high < inf
    low, high = interval(0.9, 0.03, 0.95, "chance")
    weight = 0.9 * 0.1 / 0.03**2 - 1
    assert (low, high) == pytest.approx(stats.beta.interval(0.95, 0.9 * weight, 0.1 * weight))
