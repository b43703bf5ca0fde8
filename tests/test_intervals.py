"""Intervals: gradients against differences, variances against drawn chains, and closed forms."""

from dataclasses import replace
from math import inf, log, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

import flowstat as fs
from flowstat.analyze.answers import Answer
from flowstat.analyze.changes import changed, read_changes
from flowstat.analyze.gradients import answered
from flowstat.analyze.interval import Asked, Sampling, beta, deviation, parts
from flowstat.analyze.observing import fewest
from flowstat.estimate.chain import Chain
from flowstat.estimate.counts import Counts
from flowstat.estimate.latency import Latency
from flowstat.read.patterns import format_pattern, parse_pattern
from tests.made_counts import Truth

STEP = 1e-6


def counted(scale=1):
    """A graph with a loop within a loop, fan-out, a self-loop and two outcomes, and counts of it."""
    graph = fs.parse_graph(
        "in -> work; work/ok -> ship; work/again -> work; work/more -> check; check/back -> work; check/deep -> dig;"
        "dig/up -> check; dig/lost -> lost; check/no -> lost; ship -> mail, bill;"
    )
    table = {
        ("in", "work"): 90,
        ("in", ""): 10,
        ("work", "ship"): 80,
        ("work", "work"): 25,
        ("work", "check"): 40,
        ("check", "work"): 20,
        ("check", "dig"): 15,
        ("check", "lost"): 9,
        ("check", ""): 5,
        ("dig", "check"): 9,
        ("dig", "lost"): 6,
        ("ship", "mail"): 30,
        ("ship", "bill mail"): 35,
        ("ship", "bill*2"): 15,
        ("mail", ""): 65,
        ("bill", ""): 65,
        ("lost", ""): 15,
    }
    counts = Counts({key: n * scale for key, n in table.items()}, {"in": 97 * scale, "check": 3 * scale})
    return fs.estimate(counts, graph)


def directional(chain, number, gradient, rng):
    """Return a derivative along a random direction, by the gradient and by differences."""
    posterior = chain.posterior
    change = rng.standard_normal(len(posterior.node)) * posterior.chance
    change -= posterior.chance * np.bincount(posterior.node, change, len(chain.names))[posterior.node]
    worth = posterior.shares @ np.concatenate([gradient.arrows, gradient.ends])
    if gradient.sent is not None:
        worth = worth + posterior.messages @ np.concatenate([gradient.sent, np.zeros(len(chain.names))])
    above, below = (number(posterior.moved(sign * STEP * change)) for sign in (1, -1))
    return float(worth @ change), (above - below) / (2 * STEP)


@pytest.mark.parametrize("text", ["events", "chance:lost", "chance:mail", "visits:check", "hit:dig", "visits:bill"])
def test_gradients_of_answers_are_those_of_differences(text: str) -> None:
    chain = counted()
    asked = answered(chain, Answer.parse(text))
    rng = np.random.default_rng(1)
    for _ in range(5):
        by_gradient, by_difference = directional(chain, asked.again, asked.gradient(), rng)
        assert by_gradient == pytest.approx(by_difference, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("kind", ["loops", "flows", "hitting", "timing"])
def test_gradients_of_results_are_those_of_differences(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = counted()
    seen: dict[str, Asked] = {}

    def keep(chain, way, level, asked, again):
        seen.update(asked())
        return {}

    monkeypatch.setattr(f"flowstat.analyze.{kind}.intervals_of", keep)
    pairs = {(a.source, a.target): (1.0 + len(a.target), 0.5) for a in chain.graph.arrows}
    {
        "loops": lambda: fs.loops(chain),
        "flows": lambda: fs.flows(chain),
        "hitting": lambda: fs.hitting(chain, ["dig", "mail"]),
        "timing": lambda: fs.timing(chain, latencies=pairs),
    }[kind]()
    assert len(seen) >= 2
    rng = np.random.default_rng(2)
    for key, asked in seen.items():
        assert asked.again(chain) == pytest.approx(asked.value, rel=1e-9), key
        for _ in range(2):
            by_gradient, by_difference = directional(chain, asked.again, asked.gradient(), rng)
            assert by_gradient == pytest.approx(by_difference, rel=1e-5, abs=1e-8), key


def test_the_gradient_of_the_start_is_what_each_start_is_worth() -> None:
    chain = counted()
    gradient = answered(chain, Answer("events")).gradient()
    for name in ("in", "check"):
        alone = fs.absorption(chain, name, intervals=None).events
        assert gradient.starts[chain.index[name]] == pytest.approx(alone, rel=1e-12)
    assert not answered(chain, Answer("events"), "in").gradient().starts.any()


def test_a_chance_that_hangs_on_one_node_has_its_beta_law() -> None:
    graph = fs.parse_graph("try/ok -> done; try/bad -> lost;")
    chain = fs.estimate(Counts({("try", "done"): 30, ("try", "lost"): 9}, {"try": 39}), graph)
    low, high = fs.absorption(chain).between("probability", "done")
    assert [low, high] == pytest.approx(stats.beta(30.5, 9.5).ppf([0.025, 0.975]), rel=1e-12)
    share = next(s for s in fs.shares(chain).shares if s.target == "done")
    assert (low, high) == pytest.approx((share.low, share.high), rel=1e-12)
    wide = fs.absorption(chain, level=0.99).between("probability", "done")
    assert wide == pytest.approx(tuple(stats.beta(30.5, 9.5).ppf([0.005, 0.995])), rel=1e-12)


def test_the_rounds_of_a_self_loop_have_the_width_of_their_odds() -> None:
    chain = fs.estimate(Counts({("a", "a"): 60, ("a", ""): 140}, {"a": 140}), prior=0)
    found = fs.loops(chain)
    # The log of the odds r / (1 - r), to first order: sd = 1 / sqrt(r (1 - r) (n + 1)).
    r = 0.3
    way = 1.959963984540054 / sqrt(r * (1 - r) * 201)
    low, high = found.between("rounds", "a -> a")
    assert log((high - 1) / (r / (1 - r))) == pytest.approx(way, rel=1e-9)
    assert log((low - 1) / (r / (1 - r))) == pytest.approx(-way, rel=1e-9)
    assert found.between("entered", "a -> a") == pytest.approx(tuple(stats.beta(60, 140).ppf([0.025, 0.975])), rel=1e-9)


@pytest.mark.parametrize("what", ["absorption", "visits", "loops", "flows", "hitting"])
def test_gradients_and_drawn_chains_agree_where_there_are_many_events(what: str) -> None:
    chain = counted(30)
    ask = {"hitting": lambda **how: fs.hitting(chain, "dig", **how)}.get(what)
    ask = ask or (lambda **how: getattr(fs, what)(chain, **how))
    quick, drawn = ask(), ask(intervals=Sampling(draws=250, seed=3))
    assert quick.sure.keys() == drawn.sure.keys()
    assert quick.sure
    for key, each in quick.sure.items():
        other = drawn.sure[key]
        width = max(each.high - each.low, 1e-12)
        # A quantile of 250 draws is off by some 7% of the width.
        assert other.low == pytest.approx(each.low, abs=0.3 * width), key
        assert other.high == pytest.approx(each.high, abs=0.3 * width), key
        assert not each.doubt


def test_times_count_in_how_few_latencies_were_recorded() -> None:
    graph = fs.parse_graph("a -> b")
    some = Latency.of([1_000_000_000, 3_000_000_000] * 50)
    counts = Counts({("a", "b"): 100, ("b", ""): 100}, {"a": 100}, latencies={("a", "b"): some})
    chain = fs.estimate(counts, graph, 0)
    low, high = fs.timing(chain).between("mean", "b")
    way = 1.959963984540054 * (1 / sqrt(99)) / 2
    assert [log(low / 2), log(high / 2)] == pytest.approx([-way, way], rel=1e-9)
    drawn = fs.timing(chain, intervals=Sampling(2000, 1)).between("mean", "b")
    assert drawn == pytest.approx((low, high), abs=0.02)
    asked = fs.sensitivity(chain, "time")
    assert asked.low == pytest.approx(low)


def test_the_parts_of_the_variance_sum_to_it() -> None:
    chain = counted()
    asked = answered(chain, Answer("events"))
    each, start = parts(chain.posterior, asked.gradient())
    assert sqrt(each.sum() + start) == pytest.approx(deviation(chain.posterior, asked.gradient()))
    assert (each >= 0).all()
    found = fs.sensitivity(chain, "events", top=100)
    shares = sum(e.uncertainty for e in found.effects)
    assert shares + start / (each.sum() + start) == pytest.approx(1)
    assert found.low < found.value < found.high


def test_what_to_observe_halves_the_interval() -> None:
    chain = counted(10)
    found = fs.sensitivity(chain, "chance:lost", top=100)
    more = {e.source: e.observe for e in found.effects}
    assert any(more.values())
    # As many more events at each node, in the same proportions.
    counts = chain.counts
    table = {
        (node, sent): n * (1 + more.get(node, 0) / counts.events[node]) for (node, sent), n in counts.table.items()
    }
    starts = {node: n * 1e9 for node, n in counts.starts.items()}
    graph = chain.graph
    sd, halved = (
        deviation(c.posterior, answered(c, Answer("chance", ("lost",)), None).gradient())
        for c in (fs.estimate(replace(counts, starts=starts), graph), fs.estimate(Counts(table, starts), graph))
    )
    assert halved < 0.52 * sd


@given(st.integers(1, 6), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_the_fewest_events_are_the_fewest(k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    variance, weight = rng.random(k) ** 3 + 1e-3, rng.random(k) * 50 + 1
    target = variance.sum() / 4
    more = fewest(variance, weight, target)
    assert (variance * weight / (weight + more)).sum() == pytest.approx(target)
    best = optimize.minimize(
        lambda x: x.sum(),
        more + 1,
        constraints=[{"type": "ineq", "fun": lambda x: target - (variance * weight / (weight + x)).sum()}],
        bounds=[(0, None)] * k,
    )
    assert more.sum() <= best.fun * (1 + 1e-6)
    assert fewest(variance, weight, 0.0) is None


def test_drawn_chains_have_the_moments_of_their_law() -> None:
    chain = counted()
    posterior = chain.posterior
    rng = np.random.default_rng(0)
    drawn = [posterior.draw(rng) for _ in range(2000)]
    shares = np.array([c.P.data for c in drawn])
    error = shares.std(axis=0) / sqrt(len(drawn))
    assert (np.abs(shares.mean(axis=0) - chain.P.data) <= 4.5 * error + 1e-15).all()
    assert all(np.allclose(c.P.sum(axis=1) + c.stop, 1) for c in drawn[:20])
    starts = np.array([c.start[chain.index["check"]] for c in drawn])
    law = stats.beta(3, 97)
    assert starts.mean() == pytest.approx(law.mean(), abs=4 * law.std() / sqrt(len(drawn)))
    ship = chain.index["ship"]
    messages = np.array([c.mean[[ship]].sum() for c in drawn])
    assert messages.mean() == pytest.approx((30 + 2 * 35 + 2 * 15 + 1) / 81, abs=0.01)


def test_weights_next_to_nothing_draw_no_nonsense() -> None:
    graph = fs.parse_graph("a/x -> b @0.999999999; a/y -> c @0.000000001; b -> a")
    chain = fs.estimate(Counts({("a", "b"): 5, ("b", "a"): 3, ("b", ""): 2}, {"a": 2}), graph)
    rng = np.random.default_rng(0)
    for _ in range(200):
        drawn = chain.posterior.draw(rng)
        assert (drawn.P.data > 0).all()
        assert np.isfinite(drawn.P.data).all()
    assert all(np.isfinite(each.high) for each in fs.absorption(chain, intervals="sample").sure.values())


def test_without_traces_there_are_no_intervals() -> None:
    graph = fs.parse_graph("a -> b; a -> c")
    for chain in (fs.estimate(Counts(), graph), Chain.from_matrix([[0, 1], [0, 0]], stop=[0, 1])):
        found = fs.absorption(chain)
        assert not found.sure
        assert found.rows()[0]["low"] is None
        assert "low" not in str(found)
        assert fs.sensitivity(chain, "events").low is None


def test_shares_that_were_stated_are_certain() -> None:
    chain = counted()
    other = changed(chain, read_changes(chain, ["work/again=0.1"]))
    assert other.posterior.total[chain.index["work"]] == 0
    assert other.posterior.total[chain.index["check"]] > 0
    assert fs.absorption(other).sure


def test_bad_questions_are_refused() -> None:
    chain = counted()
    for level in (0, 1, -1, 2, float("nan")):
        with pytest.raises(fs.AnalysisError, match="level is between"):
            fs.absorption(chain, level=level)
    with pytest.raises(fs.AnalysisError, match="'delta' or 'sample'"):
        fs.absorption(chain, intervals="exact")


def test_infinite_answers_have_no_interval() -> None:
    graph = fs.parse_graph("a/go -> trap; a/end -> done; trap -> trap")
    chain = fs.estimate(Counts({("a", "trap"): 3, ("a", "done"): 7, ("trap", "trap"): 30}, {"a": 10}), graph)
    found = fs.absorption(chain)
    assert found.events == inf
    assert found.between("events", "") == (None, None)
    low, high = found.between("probability", "trap")
    assert low < 3.5 / 11 < high


def test_few_data_are_told() -> None:
    graph = fs.parse_graph("a/x -> b; a/y -> c; b -> a")
    few = fs.absorption(fs.estimate(Counts({("a", "c"): 3, ("a", "b"): 1, ("b", "a"): 1}, {"a": 3}), graph))
    assert {each.doubt for each in few.sure.values()} & {"few", "curved"}
    assert "less than five times" in str(few) or "quick intervals" in str(few)
    many = fs.absorption(fs.estimate(Counts({("a", "c"): 300, ("a", "b"): 90, ("b", "a"): 90}, {"a": 300}), graph))
    assert {each.doubt for each in many.sure.values()} == {""}


@given(st.permutations(range(8)), st.integers(0, 50))
@settings(max_examples=10, deadline=None)
def test_names_change_nothing(order: list[int], seed: int) -> None:
    chain = counted()
    names = dict(zip(chain.names, (f"n{k}" for k in order), strict=False))

    def renamed(sent: str) -> str:
        targets = [names[t] for t, times in parse_pattern(sent) for _ in range(times)]
        return format_pattern(targets) if targets else ""

    table = {(names[node], renamed(sent)): n for (node, sent), n in chain.counts.table.items()}
    other = fs.estimate(Counts(table, {names[node]: n for node, n in chain.counts.starts.items()}), prior=0)
    same = fs.estimate(chain.counts, prior=0)
    a, b = fs.absorption(same), fs.absorption(other)
    for outcome in a.outcomes:
        assert a.between("probability", outcome.outcome) == pytest.approx(
            b.between("probability", names[outcome.outcome]), rel=1e-9
        )


@pytest.mark.parametrize("runs", [500, 5000])
def test_intervals_hold_the_truth_as_often_as_they_say(runs: int) -> None:
    chain = counted(5)
    law, rng = Truth(chain), np.random.default_rng(runs)
    true = fs.absorption(chain, intervals=None)
    sets, held = 100, {"events": 0, "lost": 0}
    for _ in range(sets):
        found = fs.absorption(fs.estimate(law.counts(runs, rng), chain.graph))
        low, high = found.between("events", "")
        held["events"] += low <= true.events <= high
        low, high = found.between("probability", "lost")
        held["lost"] += low <= next(o.probability for o in true.outcomes if o.outcome == "lost") <= high
    # Three standard deviations of so many sets; a study of 2,000 is among the benchmarks.
    assert all(abs(n / sets - 0.95) <= 3 * sqrt(0.95 * 0.05 / sets) for n in held.values()), held


def test_beta_laws() -> None:
    assert beta(0.3, 0.3 * 0.7 / 11, 0.9) == pytest.approx(tuple(stats.beta(3, 7).ppf([0.05, 0.95])))
    assert beta(0.3, 0.5, 0.9) == (0.0, 1.0)
    assert beta(0.0, 0.1, 0.9) == (0.0, 0.0)
