"""What loops do to runs, measured from simulated ones; see also `test_loops.test_simulated_runs_go_round_alike`."""

from functools import cache
from math import gcd

import numpy as np
import pytest

from flowstat.analyze.loops import Loop, loops
from flowstat.estimate.chain import END, estimate
from flowstat.estimate.counts import Counts
from tests.oracles import RUNS, Simulated, chain_of, mean_agrees, share_agrees, shop, shop_runs, simulate

TIMES = {"order": 0.5, "check": 2.0, "pay": 1.0, "wait": 30.0, "ship": 4.0, "done": 0.25}


@cache
def turning() -> Simulated:
    """Return runs of loops of period 2, 3 and 1: of two, of three nodes, and one where both are."""
    table = {
        "in": {"a": 0.375, "p": 0.375, "x": 0.25},
        "a": {"b": 0.75, "c": 0.25},
        "b": {"a": 0.875},
        "c": {"a": 0.5},
        "p": {"q": 1},
        "q": {"r": 0.875},
        "r": {"p": 0.75},
        "x": {"y": 1},
        "y": {"x": 0.5, "z": 0.375},
        "z": {"x": 0.5},
    }
    return simulate(chain_of(table, "in"), 20260503)


def entering(runs: Simulated, loop: Loop) -> tuple[np.ndarray, np.ndarray]:
    """Return where runs are in a loop, and where they have just come in, both as `runs.steps` is."""
    inside = np.isin((*runs.chain.names, END), loop.nodes)[runs.steps]
    before = np.vstack([np.zeros((1, runs.runs), bool), inside[:-1]])
    return inside, inside & ~before


def test_the_period_is_what_all_returns_have_in_common() -> None:
    runs = turning()
    found = {loop.nodes: loop for loop in loops(runs.chain).loops if loop.depth == 0}
    assert {nodes: loop.period for nodes, loop in found.items()} == {
        ("a", "b", "c"): 2,
        ("p", "q", "r"): 3,
        ("x", "y", "z"): 1,
    }
    for loop in found.values():
        inside, _ = entering(runs, loop)
        since, seen = np.zeros(runs.runs, np.int64), 0
        header = runs.chain.index[loop.header]
        for now, stays in zip(runs.steps, inside, strict=True):
            back = (now == header) & (since > 0)
            seen = gcd(seen, *np.unique(since[back]).tolist())
            since = np.where(stays, np.where(now == header, 1, since + (since > 0)), 0)
        assert seen == loop.period


def test_the_law_of_entry_orders_the_entries() -> None:
    runs = shop_runs()
    for loop in loops(runs.chain).loops:
        _, come = entering(runs, loop)
        at = {name: int((come & (runs.steps == runs.chain.index[name])).sum()) for name in loop.nodes}
        assert loop.entries == tuple(sorted((i for i in at if at[i]), key=lambda name: -at[name]))
        assert loop.header == loop.entries[0]


def test_the_law_of_entry_as_runs_take_it() -> None:
    """In by x with 3/4, by y with 1/4, and what comes in by each leaves differently: the law decides the exits."""
    runs = simulate(chain_of({"x": {"y": 0.25, "z": 0.5}, "y": {"x": 0.125}, "z": {}}, {"x": 0.75, "y": 0.25}), 7)
    [loop] = loops(runs.chain).loops
    inside, come = entering(runs, loop)
    assert share_agrees((come & (runs.steps == 0)).sum(), come.sum(), 0.75)
    assert mean_agrees(inside.sum(axis=0) - loop.events_per_entry * come.sum(axis=0), 0)
    left = runs.exits(loop)
    for way in loop.exits:
        assert share_agrees(left[way.source, way.target], left.total(), way.probability)


def test_time_and_events_per_run_and_per_entry() -> None:
    """Latencies are drawn for every message: exponential, of the mean of its source and a half more to `pay`."""
    runs = shop_runs()
    names = (*runs.chain.names, END)
    mean = np.array([[TIMES[i] * (1.5 if j == "pay" else 1.0) for j in names] for i in runs.chain.names])
    latencies = {(i, j): (mean[a, b], 0.0) for a, i in enumerate(runs.chain.names) for b, j in enumerate(names)}
    found = loops(runs.chain, latencies=latencies).loops
    draw = np.random.default_rng(20260504)
    here, then = runs.steps[:-1], runs.steps[1:]
    spent = np.where(here >= 0, draw.exponential(size=here.shape) * mean[here, then], 0.0)
    assert (runs.steps[-1] < 0).all()
    for loop in found:
        inside, come = entering(runs, loop)
        assert loop.time is not None
        assert mean_agrees(np.where(inside[:-1], spent, 0.0).sum(axis=0), loop.time)
        assert mean_agrees(inside.sum(axis=0), loop.events)
        per_entry = loop.time * loop.events_per_entry / loop.events
        assert mean_agrees(np.where(inside[:-1], spent, 0.0).sum(axis=0) - per_entry * come.sum(axis=0), 0)


@pytest.mark.parametrize(("twice", "effect"), [(30, "dampens"), (50, "keeps"), (60, "grows")])
def test_the_gain_is_how_generations_grow(twice: int, effect: str) -> None:
    """Of a hundred events at `split`, so many send two messages to `part`, the others none; `part` sends one back.

    Messages of 200,000 runs are followed, generation by generation: those of the next but one are gain^2 times as many.
    """
    table = {("split", "part*2"): twice, ("split", ""): 100 - twice, ("part", "split"): 200}
    [loop] = loops(estimate(Counts(table, {"split": 1}), prior=0)).loops
    assert loop.effect == effect
    draw = np.random.default_rng(20260505)
    at_split = np.ones(RUNS, np.int64)
    for generation in range(1, 5):
        at_split = 2 * draw.binomial(at_split, twice / 100)
        assert mean_agrees(at_split, loop.gain ** (2 * generation))


def test_the_gain_of_a_shared_loop_by_its_generations() -> None:
    """Two nodes that send to themselves and to one another, several messages at once: a sends `a b` or `b b` or none, b
    sends `a` or none. Mean numbers are a -> a 0.4, a -> b 0.8, b -> a 0.5: the gain g solves g^2 = 0.4 g + 0.4, and
    (g, 0.5) is what one message at a, at b counts for: of one generation after the other that sum grows g-fold.
    """
    table = {("a", "a b"): 40, ("a", "b*2"): 20, ("a", ""): 40, ("b", "a"): 50, ("b", ""): 50}
    [loop] = [x for x in loops(estimate(Counts(table, {"a": 1}), prior=0)).loops if x.kind == "chain"]
    gain = 0.2 + np.sqrt(0.44)
    assert abs(loop.gain - gain) <= loop.gain_bound + 1e-15
    draw = np.random.default_rng(20260506)
    a, b = np.ones(RUNS, np.int64), np.zeros(RUNS, np.int64)
    for _ in range(6):
        both = draw.binomial(a, 0.4)
        two = draw.binomial(a - both, 0.2 / 0.6)
        before = gain * a + 0.5 * b
        a, b = both + draw.binomial(b, 0.5), both + 2 * two
        assert mean_agrees(gain * a + 0.5 * b - loop.gain * before, 0)


def test_the_chance_of_another_round_and_the_number_of_rounds() -> None:
    runs = turning()
    for loop in loops(runs.chain).loops:
        counted = runs.rounds(loop)
        header = (runs.steps == runs.chain.index[loop.header]).sum()
        assert share_agrees(counted.sum(), header, loop.again)
        assert share_agrees((counted > 0).sum(), runs.runs, loop.entered)
        assert mean_agrees(counted[counted > 0], loop.rounds)
        inside, _ = entering(runs, loop)
        assert mean_agrees(inside.sum(axis=0) - loop.share * (runs.steps >= 0).sum(axis=0), 0)


def test_the_shop_has_loops_of_all_kinds() -> None:
    kinds = {(loop.kind, loop.irreducible, loop.depth > 0) for loop in loops(shop()).loops}
    assert {("self", False, True), ("chain", True, False)} <= kinds
