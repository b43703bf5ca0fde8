"""How often intervals hold the truth, on simulated data sets: no ratio of times, but a study that takes minutes."""

from collections import Counter
from pathlib import Path

import numpy as np

import flowstat as fs
from flowstat.analyze.answers import Answer
from flowstat.analyze.gradients import answered
from flowstat.analyze.interval import Interval, by_delta
from flowstat.analyze.loop_intervals import asked_loops
from flowstat.analyze.shares import shares
from tests.benchmarks.harness import Row
from tests.made_counts import Truth

DATA = Path(__file__).parents[2] / "data"
SETS = 2_000
NEAR = 1e-9
"""What is certain may be off by rounding."""

ASKED = {
    "orders": ("declined", "payment -> payment", ("reserve", "backorder")),
    "jobs": ("dead letter", "queue -> ... -> queue", ("transform", "requeue")),
    "mesh": ("reply", "database -> ... -> database", ("gateway", "cart")),
}
"""Graph -> an outcome, a loop, and an arrow."""


def truth_of(name):
    graph = fs.read_graph(DATA / f"{name}.graph")
    return fs.estimate(fs.count(fs.read_traces(DATA / f"{name}.parquet"), graph), graph)


def numbers(chain, name):
    """Return value and interval of what is asked of a chain."""
    outcome, loop, (source, target) = ASKED[name]
    posterior = chain.posterior
    share = next(s for s in shares(chain).shares if (s.source, s.target) == (source, target))
    found = {"share": (share.share, Interval(share.low, share.high) if share.low is not None else None)}
    around = asked_loops(chain, fs.loops(chain, cycles=1, intervals=None).loops, None, None)
    asked = {
        "chance": answered(chain, Answer("chance", (outcome,))),
        "events": answered(chain, Answer("events")),
        "rounds": around.get(f"rounds:{loop}"),
    }
    for what, each in asked.items():
        found[what] = (1.0, None) if each is None else (each.value, by_delta(posterior, each, 0.95))
    return found


def coverage(name, runs, sets, seed=0):
    """Return for each number how often its interval holds the truth, and how often there is none, or one in doubt."""
    chain = truth_of(name)
    law = Truth(chain)
    true = {what: value for what, (value, _) in numbers(chain, name).items()}
    held, doubtful = Counter(), Counter()
    rng = np.random.default_rng(seed)
    for _ in range(sets):
        counts = law.counts(runs, rng)
        for what, (_, sure) in numbers(fs.estimate(counts, chain.graph), name).items():
            if sure is None or sure.doubt:
                doubtful[what] += 1
            else:
                held[what] += sure.low - NEAR <= true[what] <= sure.high + NEAR
    return {what: (held[what] / max(sets - doubtful[what], 1), doubtful[what] / sets) for what in true}


def benchmarks(sets=SETS):
    for name in ASKED:
        for runs in (50, 500, 5000):
            for what, (share, doubtful) in coverage(name, runs, sets).items():
                if doubtful > 0.5:
                    continue  # what happens instead: the interval says that it is in doubt
                detail = f"{share:.1%} of {sets:,} data sets" + (f", {doubtful:.1%} in doubt" if doubtful else "")
                yield Row(
                    f"{name}, {runs:,} runs: {what}, |coverage - 95%|", abs(share - 0.95), 0.02, "at most", detail
                )
