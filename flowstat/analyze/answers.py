"""Answers that can be asked how they depend on the shares: each with what a message, and an end, is worth to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from typing import Literal, get_args

import numpy as np
from scipy import sparse

from flowstat.analyze.arrow_times import OFF, Latencies, arrow_times
from flowstat.analyze.bounded import closed_states, exact, plus, times
from flowstat.analyze.elimination import UNIT
from flowstat.analyze.solve import Solved, Solver, Vector, total
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import Chain
from flowstat.read.words import shown

__all__ = ["Adjoint", "Answer", "Kind", "adjoint"]

Kind = Literal["chance", "events", "visits", "hit", "steps", "stationary", "time"]


@dataclass(frozen=True)
class Answer:
    """A number that is asked for.

    `chance`: that a run ends at the node, or is trapped in its closed class; `events`: expected number in a run;
    `visits`: expected number at the node; `hit`: chance to come to any of the nodes; `steps`: expected steps till then;
    `stationary`: the node's share in the long run of its closed class; `time`: expected seconds of a run.
    """

    kind: Kind
    nodes: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Answer:
        """Read an answer that is written as `kind` or `kind:node`.

        Raises
        ------
        AnalysisError
            If there is no such kind.

        Examples
        --------
        >>> Answer.parse("hit:shipped")
        Answer(kind='hit', nodes=('shipped',))
        """
        kind, colon, node = text.partition(":")
        for known in get_args(Kind):
            if kind.strip() == known:
                return cls(known, (node.strip(),) if colon else ())
        raise AnalysisError(
            f"{shown(text)!r} is no answer: ask for events, time, chance:NODE, visits:NODE, hit:NODE, steps:NODE or "
            "stationary:NODE"
        )

    def __str__(self) -> str:
        return self.kind + (":" + ", ".join(map(shown, self.nodes)) if self.nodes else "")


@dataclass(frozen=True)
class Adjoint:
    """An answer f with what it depends on: `df/dp_ij = w_i y_ij`, where p_ij alone is changed.

    Attributes
    ----------
    value
        The answer and its bound.
    weights : (n,)
        w: how often a run draws where it goes from each node.
    arrows : (m,)
        y: what each arrow is worth from when it is taken, in the order of the chain's arrows.
    ends : (n,)
        What it is worth to end at each node.
    starts : (n,)
        What it is worth to start at each node.
    level
        What `arrows` is shifted by for `df/dp_ij`, where shares that do not sum to 1 need it: a long-run share.
    reason
        Why the answer is what no share changes, or infinite.
    """

    value: Solved
    weights: Solved
    arrows: Solved
    ends: Solved
    starts: Vector
    level: Solved | None = None
    reason: str = ""


def adjoint(chain: Chain, answer: Answer, law: Vector, latencies: Latencies | None = None) -> Adjoint:
    """Compute an answer and what it depends on, by one solve forward and one backward.

    Raises
    ------
    AnalysisError
        If the answer needs a node and has none, or one that is not in the chain.
    """
    makers: dict[Kind, Callable[[], Adjoint]] = {
        "chance": lambda: _chance(chain, answer, law),
        "events": lambda: _collected(chain, law, np.ones(len(law))),
        "visits": lambda: _collected(chain, law, _mask(chain, answer)),
        "hit": lambda: _hit(chain, answer, law, steps=False),
        "steps": lambda: _hit(chain, answer, law, steps=True),
        "stationary": lambda: _stationary(chain, answer),
        "time": lambda: _time(chain, law, latencies),
    }
    several = answer.kind in ("hit", "steps")
    bare = answer.kind in ("events", "time")
    if bare and answer.nodes:
        raise AnalysisError(f"{answer.kind} are about the whole run: ask for {answer.kind!r} without a node")
    if not bare and not answer.nodes:
        raise AnalysisError(f"{answer.kind} of which node? Ask for '{answer.kind}:NODE'")
    if not bare and not several and len(answer.nodes) > 1:
        raise AnalysisError(f"{answer.kind} are asked for one node at a time, not {len(answer.nodes)}")
    for node in answer.nodes:
        if node not in chain.index:
            few = ", ".join(map(shown, chain.names[:8]))
            more = ", ..." * (len(chain.names) > 8)
            raise AnalysisError(f"no node is called {shown(node)!r}: the nodes are {few}{more}")
    return makers[answer.kind]()


def _mask(chain: Chain, answer: Answer) -> Vector:
    mask = np.zeros(len(chain.names))
    mask[[chain.index[node] for node in answer.nodes]] = 1.0
    return mask


def _made(chain: Chain, value: Solved, weights: Solved, x: Solved, ends: Vector, reason: str = "") -> Adjoint:
    columns = chain.arrows()[1]
    onward = Solved(x.values[columns], x.bound[columns])
    return Adjoint(value, weights, onward, exact(ends), x.values, reason=reason)


def _passed(solver: Solver, law: Vector) -> tuple[Solved, Solved, bool]:
    """Return visits with 0 in closed classes, inflow, and whether a closed class is come to."""
    visited, entered = solver.visits(law)
    closed = closed_states(solver)
    reached = bool(np.isinf(visited.values).any())
    return Solved(*(np.where(closed, 0.0, x) for x in (visited.values, visited.bound))), entered, reached


def _infinite(chain: Chain, reason: str) -> Adjoint:
    nothing = exact(np.zeros(len(chain.names)))
    return Adjoint(exact(inf), nothing, exact(np.zeros(chain.P.nnz)), nothing, nothing.values, reason=reason)


def _chance(chain: Chain, answer: Answer, law: Vector) -> Adjoint:
    solver = Solver(chain.P, chain.stop)
    weights, entered, _ = _passed(solver, law)
    node = chain.index[answer.nodes[0]]
    inside = _mask(chain, answer)
    part = solver.classes[int(solver.label[node])]
    if part.closed:
        inside[part.states] = 1.0
        value = total(Solved(entered.values[part.states], entered.bound[part.states]))
        x = _boundary(solver, inside)
        return _made(chain, value, weights, x, np.zeros(solver.n))
    gain = inside * chain.stop
    value = times(Solved(weights.values[node], weights.bound[node]), exact(chain.stop[node]))
    reason = "" if chain.stop[node] > 0 else f"no run ends at {shown(answer.nodes[0])}, nor is it trapped there"
    return _made(chain, value, weights, solver.backward(gain), inside, reason)


def _boundary(solver: Solver, inside: Vector) -> Solved:
    """Return the chance to come to a closed class from each state."""
    gain = solver.P @ inside
    x = solver.backward(gain, gain_bound=solver.unit * gain)
    there = inside > 0
    return Solved(np.where(there, 1.0, x.values), np.where(there, 0.0, x.bound))


def _collected(chain: Chain, law: Vector, gain: Vector) -> Adjoint:
    """Return what events bring in all, each `gain` at its node."""
    solver = Solver(chain.P, chain.stop)
    weights, entered, _ = _passed(solver, law)
    if any(gain[states].any() and entered.values[states].any() for states in solver.closed):
        return _infinite(chain, "some runs never end, and have such events for ever")
    value = total(times(weights, exact(gain)))
    return _made(chain, value, weights, solver.backward(gain), np.zeros(solver.n))


def _hit(chain: Chain, answer: Answer, law: Vector, *, steps: bool) -> Adjoint:
    inside = _mask(chain, answer)
    P = chain.P.copy()
    P.data[inside[chain.arrows()[0]] > 0] = 0.0
    P.eliminate_zeros()
    solver = Solver(P, np.where(inside > 0, 1.0, chain.stop))
    passed, _, trapped = _passed(solver, law)
    there = Solved(passed.values * inside, passed.bound * inside)
    weights = Solved(passed.values * (1 - inside), passed.bound * (1 - inside))
    if not steps:
        return _made(chain, total(there), weights, solver.backward(inside), np.zeros(solver.n))
    if trapped or (weights.values * chain.stop).any():
        return _infinite(chain, "some runs do not come there")
    x = solver.backward(1 - inside)
    return _made(chain, total(weights), weights, x, np.zeros(solver.n))


def _stationary(chain: Chain, answer: Answer) -> Adjoint:
    solver = Solver(chain.P, chain.stop)
    node, n = chain.index[answer.nodes[0]], solver.n
    part = solver.classes[int(solver.label[node])]
    if not part.closed:
        zero = exact(np.zeros(n))
        reason = f"{shown(answer.nodes[0])} is left for good: its share in the long run is 0"
        return replace(_made(chain, exact(0.0), zero, zero, np.zeros(n)), reason=reason)
    found = solver.stationary(part.states)
    law = Solved(np.zeros(n), np.zeros(n))
    law.values[part.states], law.bound[part.states] = found.values, found.bound
    value = Solved(law.values[node], law.bound[node])
    # Within the class: how long it takes to come to the node.
    at = int(np.searchsorted(part.states, node))
    block = sparse.csr_array(chain.P[part.states][:, part.states])
    rows = np.repeat(np.arange(len(part.states)), np.diff(block.indptr))
    block.data = np.where(rows == at, 0.0, block.data)
    block.eliminate_zeros()
    away = np.ones(len(part.states))
    away[at] = 0.0
    passage = Solver(block, 1 - away).backward(away)
    m = Solved(np.zeros(n), np.zeros(n))
    m.values[part.states], m.bound[part.states] = passage.values, passage.bound
    x = times(m, Solved(-value.values, value.bound))
    made = _made(chain, value, law, x, np.zeros(n))
    return replace(made, level=total(times(law, x)), starts=np.zeros(n))


def _time(chain: Chain, law: Vector, latencies: Latencies | None) -> Adjoint:
    solver = Solver(chain.P, chain.stop)
    weights, _, trapped = _passed(solver, law)
    rows, columns, shares = chain.arrows()
    lasting = arrow_times(chain, latencies, weights.values[rows] > 0)
    if trapped:
        return _infinite(chain, "some runs never end")
    unit = (OFF + 2) * UNIT + solver.unit
    gain = np.bincount(rows, shares * lasting.mean, solver.n) + chain.stop * lasting.end_mean
    t = solver.backward(gain, gain_bound=1.01 * unit * gain)
    value = total(times(weights, Solved(gain, 1.01 * unit * gain)))
    mean = Solved(lasting.mean, OFF * UNIT * lasting.mean)
    onward = plus(mean, Solved(t.values[columns], t.bound[columns]))
    ends = Solved(lasting.end_mean, OFF * UNIT * lasting.end_mean)
    return Adjoint(value, weights, onward, ends, t.values)
