"""Gradients of answers with respect to all shares: what intervals are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy import sparse

from flowstat.analyze.answers import Adjoint, Answer, adjoint
from flowstat.analyze.arrow_times import NANO, Latencies, arrow_times
from flowstat.analyze.bounded import closed_states
from flowstat.analyze.interval import Asked, Gradient
from flowstat.analyze.search import Index
from flowstat.analyze.solve import Solver, Vector
from flowstat.estimate.chain import Chain, Start, start_law
from flowstat.estimate.latency import Latency

__all__ = [
    "Return",
    "Until",
    "answered",
    "collected",
    "gain_gradient",
    "gradient_of",
    "perron_root",
    "recorded",
    "returned",
    "until",
]

SMALL = 300
"""Up to how many nodes of a loop its Perron vectors are found by all eigenvalues."""

TINY = 1e-300


def gradient_of(chain: Chain, found: Adjoint, more: float = 0.0) -> Gradient:
    """Return the gradient that an adjoint solve has found."""
    weights = found.weights.values
    rows = chain.arrows()[0]
    level = 0.0 if found.level is None else float(found.level.values)
    return Gradient(
        weights[rows] * (found.arrows.values - level), weights * (found.ends.values - level), found.starts, more=more
    )


def answered(
    chain: Chain,
    answer: Answer,
    start: Start = None,
    latencies: Latencies | None = None,
    found: Adjoint | None = None,
) -> Asked:
    """Return an answer with its gradient; see `flowstat.analyze.answers`. A start that is given is certain."""
    law = start_law(chain, start)
    found = adjoint(chain, answer, law, latencies) if found is None else found
    if start is not None:
        found = replace(found, starts=np.zeros(len(law)))
    most = 1.0 if answer.kind in ("chance", "hit", "stationary") else np.inf
    more, known = 0.0, latencies
    if answer.kind == "time":
        rows, _, shares = chain.arrows()
        passed = found.weights.values[rows] * shares
        known = arrow_times(chain, latencies, passed > 0).known
        more = recorded(chain, known, passed)

    def again(other: Chain) -> float:
        return float(adjoint(other, answer, other.start if start is None else law, known).value.values)

    return Asked(float(found.value.values), lambda: gradient_of(chain, found, more), again, most=float(most))


def recorded(chain: Chain, known: Latencies, passed: Vector) -> float:
    """Return the variance of a mean time that comes of how few latencies were recorded, by the use of every arrow."""
    rows, columns, _ = chain.arrows()
    total = 0.0
    for i, j, n in zip(rows.tolist(), columns.tolist(), passed.tolist(), strict=True):
        latency = known.get((chain.names[i], chain.names[j]))
        if n > 0 and isinstance(latency, Latency) and latency.number > 1:
            total += n * n * latency.variance * NANO**2 / (latency.number - 1)
    return total


def collected(chain: Chain, start: Start, gains: Vector, ends: Vector) -> list[Callable[[], Gradient]]:
    """Return the gradients of what runs collect in all, of several kinds at once.

    Parameters
    ----------
    gains : (n, k)
        What an event at each node brings of each kind, till a closed class is come to.
    ends : (n, k)
        What of it an event brings only if the run ends with it: that is not in `gains`. Where runs are caught, what it
        is worth to be there.

    Notes
    -----
    With v the visits and x_j what is expected from j on, the derivative with respect to p_ij is `v_i x_j`: one solution
    forward, and one backward for each kind by the same factorisation.
    """
    solver = Solver(chain.P, chain.stop)
    closed = closed_states(solver)
    v = np.where(closed, 0.0, solver.visits(start_law(chain, start))[0].values)
    caught = np.where(closed[:, None], ends, 0.0)
    whole = gains + ends * chain.stop[:, None] + chain.P @ caught
    x = np.where(closed[:, None], caught, solver.backward(np.where(closed[:, None], 0.0, whole)).values)
    rows, columns, _ = chain.arrows()
    free = start is None

    def made(k: int) -> Gradient:
        last = np.where(closed, 0.0, v * ends[:, k])
        return Gradient(v[rows] * x[columns, k], last, x[:, k] if free else np.zeros(len(v)))

    return [partial(made, k) for k in range(gains.shape[1])]


@dataclass(frozen=True)
class Until:
    """The chance of an outcome, and the mean time till then of the runs that have it; each with its gradient."""

    chance: float
    mean: float
    of_chance: Gradient
    of_mean: Gradient


def until(solver: Solver, law: Vector, inside: Vector, each: Vector, last: Vector) -> Until:
    """Return the chance of an outcome, and the mean time till then.

    Parameters
    ----------
    solver
        Of the chain, whose runs end at the outcome if it is a node to come to.
    inside : (n,)
        1 where a run that ends has the outcome, or at the nodes of a closed class that is the outcome.
    each, last : (m,), (n,)
        What every arrow takes, and every end.

    Notes
    -----
    With v the visits, u the time that has passed at them, h the chance of the outcome and g that times the time till
    then, `E[T; o]` has the derivative `u_i h_j + v_i (t_ij h_j + g_j)` with respect to p_ij, and the chance `v_i h_j`.
    """
    P = solver.P
    n = solver.n
    rows = np.repeat(np.arange(n), np.diff(P.indptr))
    columns = P.indices
    closed = closed_states(solver)
    caught = np.where(closed, inside, 0.0)
    v = np.where(closed, 0.0, solver.visits(law)[0].values)
    gain = P @ caught + np.where(closed, 0.0, solver.leaving * inside)
    h = np.where(closed, caught, solver.backward(gain).values)
    slow = np.bincount(rows, P.data * each * h[columns], n)
    gain = np.where(closed, 0.0, slow + solver.leaving * last * inside)
    g = np.where(closed, 0.0, solver.backward(gain).values)
    passing = np.bincount(columns, v[rows] * P.data * each, n)
    u = np.where(closed, 0.0, solver.visits(np.where(closed, 0.0, passing))[0].values)
    chance, whole = float(law @ h), float(law @ g)
    ends = np.where(closed, 0.0, inside)
    of_chance = Gradient(v[rows] * h[columns], v * ends, h)
    mean = whole / chance
    arrows = u[rows] * h[columns] + v[rows] * (each * h[columns] + g[columns])
    of_mean = Gradient(
        (arrows - mean * of_chance.arrows) / chance,
        ((u + v * last) * ends - mean * of_chance.ends) / chance,
        (g - mean * h) / chance,
    )
    return Until(chance, mean, of_chance, of_mean)


@dataclass(frozen=True)
class Return:
    """The chance to come back to a node within some nodes, and what it hangs on.

    Attributes
    ----------
    again, never
        The chance, and that not to.
    gradient
        Of `again`.
    """

    again: float
    never: float
    gradient: Gradient


def returned(chain: Chain, states: Index, node: int) -> Return:
    """Return the chance to come back to a node from itself, without leaving some nodes that it is one of.

    Notes
    -----
    With w the expected visits of one round from the node, and y the chance to come back from each node (1 at the node
    itself), the derivative with respect to p_ij is `w_i y_j`: see `flowstat.analyze.sensitivity`.
    """
    n, m = len(chain.names), chain.P.nnz
    at = int(np.searchsorted(states, node))
    block = sparse.csr_array(chain.P[states][:, states])
    back = np.asarray(block[:, [at]].todense(), np.float64).ravel()
    rows = np.repeat(np.arange(len(states)), np.diff(block.indptr))
    onward = block.indices != at
    inner = sparse.csr_array((block.data[onward], (rows[onward], block.indices[onward])), shape=block.shape)
    leaving = _leaving(chain, states)
    solver = Solver(inner, back + leaving)
    first = np.zeros(len(states))
    first[at] = 1.0
    passed = solver.visits(first)[0].values
    y = solver.backward(back).values.copy()
    y[at] = 1.0
    weights, worth = np.zeros(n), np.zeros(n)
    weights[states], worth[states] = passed, y
    i, j, _ = chain.arrows()
    arrows: Vector = weights[i] * worth[j]
    assert len(arrows) == m
    return Return(float(passed @ back), float(passed @ leaving), Gradient(arrows, np.zeros(n), np.zeros(n)))


def _leaving(chain: Chain, states: Index) -> Vector:
    """Return the chance to leave some nodes from each of them; a sum of what leads out."""
    inside = np.zeros(len(chain.names), bool)
    inside[states] = True
    rows, columns, shares = chain.arrows()
    out = np.bincount(rows, np.where(inside[columns], 0.0, shares), len(chain.names)) + chain.stop
    leaving: Vector = out[states]
    return leaving


def gain_gradient(chain: Chain, mean: Vector, states: Index) -> Gradient:
    """Return the gradient of the spectral radius of the mean number of messages among some nodes.

    Parameters
    ----------
    mean : (m,)
        Messages along every arrow per event of its source.

    Notes
    -----
    With u and v the left and right Perron vectors, `d rho / d M_ij = u_i v_j / (u v)` (Horn and Johnson, Matrix
    Analysis (2nd ed., 2013), section 6.3).
    """
    n = len(chain.names)
    messages = sparse.csr_array((mean, chain.P.indices, chain.P.indptr), shape=chain.P.shape)
    block = sparse.csr_array(messages[states][:, states])
    u, v = _perron(sparse.csr_array(block.T)), _perron(block)
    left, right = np.zeros(n), np.zeros(n)
    left[states], right[states] = u / float(u @ v), v
    rows, columns, _ = chain.arrows()
    nothing = np.zeros(n)
    return Gradient(np.zeros(chain.P.nnz), nothing, nothing, left[rows] * right[columns])


def perron_root(block: sparse.csr_array) -> float:
    """Return the spectral radius of an irreducible block, to what an interval needs."""
    x = _perron(block)
    return float((block @ x).sum() / x.sum())


def _perron(block: sparse.csr_array) -> Vector:
    """Return the Perron vector of an irreducible block, to what an interval needs."""
    k = block.shape[0]
    if k == 1:
        return np.ones(1)
    if k <= SMALL:
        values, vectors = np.linalg.eig(block.toarray())
        x = np.abs(vectors[:, int(np.argmax(values.real))].real)
    else:
        x = np.ones(k)
        for _ in range(1000):
            # With a part of x itself added, no period keeps it turning.
            y = block @ x
            y = y / y.max() + x / (4 * x.max())
            done = float(np.abs(y / y.max() - x / x.max()).max()) < 1e-8
            x = y
            if done:
                break
    vector: Vector = np.maximum(x / x.max(), TINY)
    return vector
