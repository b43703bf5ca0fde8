"""The traffic of a chain as a picture shows it: how many messages a run sends along each arrow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flowstat.analyze.solve import Index, Solver, Vector
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import Chain

__all__ = ["Traffic", "traffic"]

STEPS = 200
"""Of so many steps the traffic is shown where that of whole runs can't be worked out."""


@dataclass(frozen=True)
class Traffic:
    """Events at each node and messages along each arrow.

    Attributes
    ----------
    events : (n,)
        Of a run, on average; in a closed class the chance to be trapped there times the stationary law.
    messages : (m,)
        Along the arrows, in the order of `chain.arrows()`: `v_i p_ij`, in a closed class the stationary flow likewise.
    weight, width : (n,), (m,)
        The same relative to the largest of their kind, in [0, 1]: runs have it outside of closed classes, and in a
        closed class it is the largest of that class, times the chance to be trapped there.
    endless : (n,)
        Whether the node is in a closed class that runs come to.
    share : (n,)
        The node's share of all events; if runs may never end, of those in the long run.
    steps
        0, or the number of steps that all this is about, since more could not be worked out.
    """

    events: Vector
    messages: Vector
    weight: Vector
    width: Vector
    endless: npt.NDArray[np.bool_]
    share: Vector
    steps: int = 0


def traffic(chain: Chain) -> Traffic:
    """Return the traffic of a chain's runs from its start law.

    Notes
    -----
    Cost: that of `visits`. Where a class can't be solved, the first 200 steps are counted.

    Examples
    --------
    >>> retry = Chain.from_matrix([[0.5, 0.25], [0, 0]], ["pay", "ship"], "pay", stop=[0.25, 1])
    >>> found = traffic(retry)
    >>> found.messages.tolist(), found.width.tolist()
    ([1.0, 0.5], [1.0, 0.5])
    """
    rows, _, shares = chain.arrows()
    n = len(chain.names)
    endless = np.zeros(n, bool)
    steps = 0
    scale, arrow_scale = np.zeros(n), np.zeros(len(rows))
    try:
        solver = Solver(chain.P, chain.stop)
        visited, entered = solver.visits(chain.start)
        laws = [(states, *_law(solver, states, entered.values)) for states in solver.closed]
        events = np.where(np.isfinite(visited.values), visited.values, 0.0)
    except AnalysisError:
        laws, events, steps = [], _first(chain), STEPS
    messages = events[rows] * shares
    if events.any():
        scale[:] = events.max()
        arrow_scale[:] = messages.max(initial=0.0)
    for states, chance, law in laws:
        if chance > 0:
            endless[states] = True
            events[states] = chance * law
            scale[states] = law.max()
    inside = endless[rows]
    messages[inside] = events[rows[inside]] * shares[inside]
    for states, chance, _ in laws:
        if chance > 0:
            own = _arrows_of(chain, states)
            arrow_scale[own] = messages[own].max(initial=0.0) / chance
    counted = np.where(endless, events, 0.0) if endless.any() else events
    total = counted.sum()
    return Traffic(
        events,
        messages,
        np.divide(events, scale, out=np.zeros(n), where=scale > 0),
        np.divide(messages, arrow_scale, out=np.zeros(len(rows)), where=arrow_scale > 0),
        endless,
        counted / total if total > 0 else counted,
        steps,
    )


def _law(solver: Solver, states: Index, entered: Vector) -> tuple[float, Vector]:
    """Return the chance to be trapped in a closed class and its stationary law."""
    chance = min(1.0, float(entered[states].sum()))
    if not chance or len(states) == 1:
        return chance, np.ones(len(states))
    return chance, solver.stationary(states).values


def _arrows_of(chain: Chain, states: Index) -> Index:
    indptr = chain.P.indptr
    found: Index = np.concatenate([np.arange(indptr[i], indptr[i + 1]) for i in states.tolist()])
    return found


def _first(chain: Chain) -> Vector:
    """Return the events at each node in the first steps."""
    events, law = np.zeros(len(chain.names)), chain.start.astype(np.float64)
    back = chain.P.T.tocsr()
    for _ in range(STEPS):
        events += law
        law = back @ law
    return events
