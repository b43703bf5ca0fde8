"""What loops do on both sides of a comparison: chance to be gone round, rounds, gain, each with its variance."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from flowstat.analyze.bounded import exact, plus, quotient, times
from flowstat.analyze.elimination import UNIT
from flowstat.analyze.loop import Loop
from flowstat.analyze.loop_gain import enclosed
from flowstat.analyze.loops import loops
from flowstat.analyze.solve import Index, Solved, Solver, Vector
from flowstat.errors import AnalysisError
from flowstat.explain.diff_sides import AnswerKind, Known, Side

__all__ = ["loops_of"]

LOOPS = 3000
"""Up to how many nodes loops are compared: they are taken apart one by one."""


def loops_of(sides: tuple[Side, Side], top: int) -> Iterator[tuple[AnswerKind, str, Known, Known]]:
    """Yield what loops do on both sides: those with the largest share of the events of either.

    Raises
    ------
    AnalysisError
        If the chains are too large.
    """
    if sides[0].n > LOOPS:
        raise AnalysisError(f"the chain has more than {LOOPS:,} nodes")
    listed = [_by_nodes(side) for side in sides]
    share: dict[frozenset[str], float] = {}
    for there in listed:
        for nodes, loop in there.items():
            share[nodes] = max(share.get(nodes, 0.0), loop.share)
    ranked = sorted(share, key=lambda nodes: (-share[nodes], sorted(nodes)))
    found = [(nodes, listed[1].get(nodes) or listed[0][nodes]) for nodes in ranked[:top]]
    headers = np.array([sides[0].chain.index[loop.header] for _, loop in found], np.int64)
    known = [
        (_Headers(side, headers), _Headers(side.wide, headers), there)
        for side, there in zip(sides, listed, strict=True)
    ]
    for k, (nodes, loop) in enumerate(found):
        name = loop.name if loop.kind == "self" else "{" + ", ".join(sorted(nodes)) + "}"
        states = np.array(sorted(sides[0].chain.index[node] for node in nodes))
        told = [_loop(_Round(own, states, k), _Round(wide, states, k), there.get(nodes)) for own, wide, there in known]
        kinds: tuple[AnswerKind, ...] = ("loop", "rounds", "gain")
        for kind in kinds:
            if all(kind in each for each in told):
                yield kind, name, told[0][kind], told[1][kind]


def _by_nodes(side: Side) -> dict[frozenset[str], Loop]:
    return {
        frozenset(loop.nodes): loop
        for loop in loops(side.chain, cycles=0).loops
        if not side.closed[side.chain.index[loop.header]]
    }


def _loop(own: _Round, wide: _Round, loop: Loop | None) -> dict[AnswerKind, Known]:
    """Return what a loop does; where it is none on this side, what its nodes do."""
    off = wide.variances()
    if not own.g.values > 0:
        return {}
    entered = times(own.v, quotient(times(own.g, own.r), plus(own.g, own.r)))
    found: dict[AnswerKind, Known] = {"loop": _known(entered, off[0])}
    if own.r.values > 0:
        found["rounds"] = _known(plus(exact(np.asarray(1.0)), quotient(own.r, own.g)), off[1])
    if loop is None:
        found["gain"] = Known(*_radius(own.side, own.states), off[2])
    elif loop.gain is not None:
        found["gain"] = Known(loop.gain, loop.gain_bound, off[2])
    return found


def _radius(side: Side, states: Index) -> tuple[float, float]:
    """Return the spectral radius among some nodes that need not be a loop, and its bound."""
    block = sparse.csr_array(side.mean[states][:, states])
    _, label = csgraph.connected_components(block, directed=True, connection="strong")
    rows = np.repeat(np.arange(len(states)), np.diff(block.indptr))
    # Between strongly connected parts nothing counts, and parts without a cycle have a radius of 0.
    block.data = np.where(label[rows] == label[block.indices], block.data, 0.0)
    block.eliminate_zeros()
    cyclic = np.unique(label[np.flatnonzero(np.diff(block.indptr))])
    if not len(cyclic):
        return 0.0, 0.0
    order = np.concatenate([np.flatnonzero(label == part) for part in cyclic])
    begins = np.searchsorted(label[order], cyclic)
    low, high = enclosed(sparse.csr_array(block[order][:, order]), begins, side.solver.unit)
    middle = (float(low.max()) + float(high.max())) / 2
    return middle, 1.01 * (float(high.max()) - middle) + UNIT * middle


class _Headers:
    """Expected visits from and to the headers of all loops."""

    def __init__(self, side: Side, headers: Index) -> None:
        unit = np.zeros((side.n, len(headers)))
        unit[headers, np.arange(len(headers))] = 1.0
        self.side = side
        self.headers = headers
        self.back = side.solver.backward(unit)
        self.forth = side.solver.visits(unit)[0].values


class _Round:
    """How a loop is gone round from a header h: v, the expected events there; r, the chance of another round; g, that
    never to come back at all, not even from outside.

    A run goes round at all with the chance `v g r / (g + r)`, and then `1 + r / g` times: see `flowstat.analyze.loops`.
    """

    def __init__(self, by: _Headers, states: Index, k: int) -> None:
        side, h = by.side, int(by.headers[k])
        self.side = side
        self.states = states
        self.back, self.forth = by.back.values[:, k], by.forth[:, k]
        self.r, self.inside = _another_round(side, states, h)
        self.g = quotient(exact(np.asarray(1.0)), Solved(by.back.values[h, k], by.back.bound[h, k]))
        self.v = Solved(side.visits.values[h], side.visits.bound[h])

    def variances(self) -> tuple[float | None, float | None, float | None]:
        """Return the variances of the chance to go round, of the rounds, and of the gain."""
        side, v, r, g = self.side, float(self.v.values), float(self.r.values), float(self.g.values)
        if not g > 0:
            return None, None, _gain(side, self.states)
        weights = np.where(np.isfinite(self.forth), self.forth, 0.0)
        d_g = -g * g * side.slots(weights, self.back)
        d_v = side.slots(side.visits.values, self.back)
        whole = r + g
        gradient = g * r / whole * d_v + v * (r / whole) ** 2 * d_g + v * (g / whole) ** 2 * self.inside
        entered = float(side.variance(gradient, g * r / whole * self.back))
        rounds = float(side.variance(self.inside / g - r / g**2 * d_g))
        return entered, rounds, _gain(side, self.states)


def _known(solved: Solved, variance: float | None) -> Known:
    return Known(float(solved.values), float(solved.bound), variance)


def _another_round(side: Side, states: Index, h: int) -> tuple[Solved, Vector]:
    """Return the chance of another round, without subtraction, and its gradient."""
    out = side.chain.P[states]
    block = sparse.csr_array(out[:, states])
    at = int(np.searchsorted(states, h))
    rows = np.repeat(np.arange(len(states)), np.diff(block.indptr))
    crossing = ~np.isin(out.indices, states)
    source = np.repeat(np.arange(len(states)), np.diff(out.indptr))
    leaving = side.chain.stop[states] + np.bincount(source[crossing], out.data[crossing], len(states))
    first = np.zeros(len(states))
    span = slice(int(block.indptr[at]), int(block.indptr[at + 1]))
    first[block.indices[span]] = block.data[span]
    block.data = np.where(rows == at, 0.0, block.data)
    block.eliminate_zeros()
    leaving[at] = 1.0
    solver = Solver(block, leaving)
    arrive = np.zeros(len(states))
    arrive[at] = 1.0
    hit = solver.backward(arrive)
    terms = times(exact(first), hit)
    again = Solved(terms.values.sum(), 1.01 * (terms.bound.sum() + (len(states) + 2) * UNIT * terms.values.sum()))
    passed, _ = solver.visits(np.where(np.arange(len(states)) == at, 0.0, first))
    weights, onward = np.zeros(side.n), np.zeros(side.n)
    weights[states], onward[states] = passed.values, hit.values
    weights[h], onward[h] = 1.0, 1.0
    return again, side.slots(weights, onward)


def _gain(side: Side, states: Index) -> float | None:
    """Return the variance of the spectral radius among some nodes, by its Perron vectors."""
    block = sparse.csr_array(side.mean[states][:, states])
    left, right = _perron(sparse.csr_array(block.T)), _perron(block)
    if left is None or right is None:
        return None
    u, v = np.zeros(side.n), np.zeros(side.n)
    u[states], v[states] = left / (left @ right), right
    return float(side.variance(side.slots(u, v), messages=True))


def _perron(block: sparse.csr_array) -> Vector | None:
    """Return the Perron vector of an irreducible matrix, for a variance; None where it is not found soon."""
    x: Vector = np.ones(block.shape[0])
    shift = float(np.asarray(block.sum(axis=1)).max(initial=0.0)) or 1.0
    for _ in range(5000):
        y: Vector = block @ x + shift * x
        y /= y.max()
        if np.abs(y - x).max() < 1e-9:
            return y
        x = y
    return None
