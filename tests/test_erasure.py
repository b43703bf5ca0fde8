"""Cycles, flows, rounds and times as measured in 200,000 simulated runs, loops erased as they close."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from flowstat.analyze.absorption import absorption
from flowstat.analyze.cycles import cycles
from flowstat.analyze.flows import flows
from tests.oracles import RUNS, agrees, pit_runs, rotated, share_agrees, shop_runs, traps_of

ALL = 10**6


def told_apart(runs):
    """Yield each run that there is, as names, and how often it is."""
    names = runs.chain.names
    columns, times = np.unique(runs.steps.T, axis=0, return_counts=True)
    for column, number in zip(columns.tolist(), times.tolist(), strict=True):
        yield tuple(names[i] for i in column if i >= 0), number


def erased(run):
    """Return what is left of a run, the cycles closed, and how often it comes back to each node that is left."""
    path, closed = [], Counter()
    for name in run:
        if name in path:
            at = path.index(name)
            closed[rotated(path[at:])] += 1
            del path[at + 1 :]
        else:
            path.append(name)
    rounds, begin = 0, 0
    for name in path:
        at = [k for k in range(begin, len(run)) if run[k] == name]
        rounds += len(at) - 1
        begin = at[-1] + 1
    return tuple(path), closed, rounds


class Sums:
    """Sums of a number and of its square over runs."""

    def __init__(self):
        self.runs, self.once, self.twice = 0, 0.0, 0.0

    def add(self, value, runs):
        self.runs, self.once, self.twice = self.runs + runs, self.once + runs * value, self.twice + runs * value**2

    def agrees(self, expected, runs=None):
        """Four standard errors of the mean over so many runs, in which it is 0 where it was not added."""
        runs = runs or self.runs
        mean = self.once / runs
        return agrees(mean, expected, np.sqrt(max(self.twice / runs - mean**2, 0.0) / runs))


def latencies(chain):
    """A time for each arrow, the same every time."""
    rows, columns, _ = chain.arrows()
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return {(chain.names[i], chain.names[j]): (0.25 + (3 * i + 5 * j) % 7, 0.0) for i, j in pairs}


@pytest.mark.parametrize("made", [shop_runs, pit_runs])
def test_what_runs_do(made):
    runs = made()
    chain = runs.chain
    trapped = {name: trap for trap in traps_of(chain) for name in trap}
    outcomes = {o.outcome: frozenset(o.nodes) for o in absorption(chain).outcomes if o.kind == "trap"}
    stated = latencies(chain)
    found = flows(chain, ALL, latencies=stated)
    listed = cycles(chain, ALL, by="flux")
    assert runs.runs == RUNS
    left, closed = Counter(), {}
    rounds, events, times, spent = {}, {}, {}, Sums()
    for run, number in told_apart(runs):
        path, again, back = erased(run)
        trap = trapped.get(path[-1])
        flow = (path[:-1], trap) if trap else (path, None)
        left[flow] += number
        for cycle, count in again.items():
            closed.setdefault(cycle, Sums()).add(count, number)
        time = sum(stated[arrow][0] for arrow in pairwise(run))
        spent.add(sum(count * len(cycle) for cycle, count in again.items()), number)
        for sums, value in ((rounds, back), (events, len(run) - bool(trap)), (times, time)):
            sums.setdefault(flow, Sums()).add(value, number)
    expected = {(f.nodes, outcomes[f.outcome] if f.kind == "trap" else None): f for f in found.flows}
    assert set(left) <= set(expected)
    checked = 0
    for flow, f in expected.items():
        assert share_agrees(left[flow], RUNS, f.probability)
        if left[flow] >= 200 and f.nodes:
            assert rounds[flow].agrees(f.rounds)
            assert events[flow].agrees(f.events)
            assert times[flow].agrees(f.time)
            checked += 1
    assert checked >= 6
    fluxes = {rotated(c.nodes): c.traversals for c in listed.cycles if c.traversals != float("inf")}
    assert set(closed) <= set(fluxes)
    for cycle, flux in fluxes.items():
        assert closed.get(cycle, Sums()).agrees(flux, RUNS)
    if made is shop_runs:
        assert listed.covered is not None
        assert spent.agrees(listed.covered * absorption(chain).events)
