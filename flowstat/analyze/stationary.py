"""The long run: where runs that never end spend their time, and how much of what happens is news."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np
from scipy import sparse

from flowstat.analyze.arrivals import Arrivals
from flowstat.analyze.bounded import dot, exact, plus, quotient, times
from flowstat.analyze.entropy import law_entropy, step_entropy
from flowstat.analyze.long_run import NAMED, LongRun, Stationary, class_name
from flowstat.analyze.periods import phases
from flowstat.analyze.restart import restart
from flowstat.analyze.search import tree
from flowstat.analyze.solve import Index, Solved, Solver, Vector, total
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import Chain, Start, start_law

__all__ = ["stationary"]


def stationary(chain: Chain, start: Start = None, *, restarted: bool = False) -> Stationary:
    """Find the stationary law of each closed class, and the long run of runs from the start.

    Parameters
    ----------
    chain
        A chain.
    start
        A node or a law over nodes; the chain's start law if not given.
    restarted
        Let each end start a new run. If all runs end, the law is the share of all events by node; else every run is
        trapped sooner or later.

    Returns
    -------
    Stationary
        Laws, limits (for periodic classes averages over time, with `at` for those along times modulo the period),
        chance to end, entropy rates. Without rows if every run ends: then nothing is left in the long run.

    Raises
    ------
    ChainError
        If the start is no law over the nodes.
    AnalysisError
        If a class is too large and too close to closed, or to falling apart, to be solved.

    Notes
    -----
    Laws by elimination without subtraction in classes of up to 1,500 states, else see `Solver.stationary`; limits: by
    the chance to be trapped in each class, and for period d along residues of time (Norris, Markov Chains (1997),
    theorem 1.8.5). Restarted: expected visits in a run by expected events in one (Norris, theorem 1.7.5). Entropy rate
    `sum pi_i H_i`, H_i that of what follows an event at i (Cover and Thomas, Elements of Information Theory (2006),
    theorem 4.2.4); of a run `H(start) + sum v_i H_i` (Ekroot and Cover, IEEE Transactions on Information Theory 39
    (1993)). Restarted, it is that of the runs written one after the other: ends are seen. Cost: that of the solutions.

    Examples
    --------
    >>> P = [[0.5, 0.25, 0], [0, 0.5, 0.5], [0, 0.25, 0.75]]
    >>> found = stationary(Chain.from_matrix(P, ["a", "b", "c"], "a", stop=[0.25, 0, 0]))
    >>> [(row["node"], round(row["law"], 9), round(row["limit"], 9)) for row in found.rows()]
    [('b', 0.333333333, 0.166666667), ('c', 0.666666667, 0.333333333)]
    >>> round(found.ended, 9)
    0.5
    """
    law = start_law(chain, start)
    solver = Solver(chain.P, chain.stop)
    visited, entered = solver.visits(law)
    traps = [(states, total(entered.at(states))) for states in solver.closed]
    if restarted and not any(chance.values > 0 for _, chance in traps):
        return _events(chain, law, visited)
    if restarted and chain.stop.any():
        return replace(stationary(restart(chain, start)), restarted=True)
    news = step_entropy(chain)
    members = [states for states, _ in traps]
    periods, turns = phases(chain.P, solver.order.members())
    arrivals = Arrivals(chain, law, visited)
    classes, laws, limits = [], [], []
    rate, endless = exact(0.0), False
    for states, chance in traps:
        pi = solver.stationary(states) if len(states) > 1 else exact(np.ones(1))
        own = dot(pi, news.at(states))
        d = int(periods[solver.label[states[0]]])
        arrived = chance if d == 1 else arrivals.phases(states, turns[states], d)
        if arrived is None:
            arrived = exact([])
        laws.append(pi)
        limits.append(times(chance, pi))
        rate = plus(rate, times(chance, own))
        endless = endless or bool(chance.values > 0 and own.values > 0)
        name = class_name(tuple(chain.names[i] for i in states[: NAMED + 1]), len(states))
        at, off = np.atleast_1d(arrived.values), arrived.bound
        classes.append(
            LongRun(
                name,
                len(states),
                min(1.0, float(chance.values)),
                d,
                float(own.values),
                tuple(at.tolist()),
                float(chance.bound),
                float(own.bound),
                float(np.max(off, initial=0.0)),
            )
        )
    inside = np.concatenate(members) if members else np.zeros(0, np.int64)
    passed = np.flatnonzero(np.isfinite(visited.values) & (visited.values > 0))
    ended = dot(visited.at(passed), exact(chain.stop[passed]))
    run = _run_entropy(law, visited, news, passed)
    whole, either = _joined(laws), _joined(limits)
    return Stationary(
        tuple(chain.names[i] for i in inside),
        tuple(classes),
        np.repeat(np.arange(len(members)), [len(states) for states in members]),
        turns[inside],
        whole.values,
        whole.bound,
        either.values,
        either.bound,
        min(1.0, float(ended.values)),
        float(rate.values),
        inf if endless else float(run.values),
        restarted,
        chain.fans_out,
        float(ended.bound),
        float(rate.bound),
        0.0 if endless else float(run.bound),
    )


def _events(chain: Chain, law: Vector, visited: Solved) -> Stationary:
    """Return the share of all events by node, where every run ends and the next one starts."""
    passed = np.flatnonzero(visited.values > 0)
    v = visited.at(passed)
    events = total(v)
    share = quotient(v, events)
    run = _run_entropy(law, visited, step_entropy(chain), passed)
    rate = quotient(run, events)
    if not (np.isfinite(share.bound).all() and np.isfinite(rate.bound)):
        raise AnalysisError("runs are so long that their numbers of events are not known well enough to be divided by")
    # The start of the next run follows each end: both at the beginning of the period.
    block = sparse.csr_array(chain.P[passed][:, passed])
    depth = tree(block, law[passed] > 0).depth
    rows = np.repeat(np.arange(len(passed)), np.diff(block.indptr))
    around = np.concatenate([np.abs(depth[rows] + 1 - depth[block.indices]), depth[chain.stop[passed] > 0] + 1])
    period = int(np.gcd.reduce(around))
    name = class_name(tuple(chain.names[i] for i in passed[: NAMED + 1]), len(passed))
    phase = tuple([1.0] + [0.0] * (period - 1))
    part = LongRun(name, len(passed), 1.0, period, float(rate.values), phase, 0.0, float(rate.bound))
    return Stationary(
        tuple(chain.names[i] for i in passed),
        (part,),
        np.zeros(len(passed), np.int64),
        depth % period,
        share.values,
        share.bound,
        share.values,
        share.bound,
        0.0,
        float(rate.values),
        float(run.values),
        True,
        chain.fans_out,
        entropy_rate_bound=float(rate.bound),
        run_entropy_bound=float(run.bound),
    )


def _run_entropy(law: Vector, visited: Solved, news: Solved, passed: Index) -> Solved:
    """Return how many bits a run takes until it ends or is trapped."""
    return plus(law_entropy(law), dot(visited.at(passed), news.at(passed)))


def _joined(parts: list[Solved]) -> Solved:
    if not parts:
        return exact([])
    return Solved(np.concatenate([p.values for p in parts]), np.concatenate([p.bound for p in parts]))
