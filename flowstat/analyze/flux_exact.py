"""The cycles that runs go round most, by exact chances of the paths that they begin with.

The first returns to a node r, their own loops erased, are cycles through r: the chance that one begins with a path
v_0 = r, v_1, ..., v_k is `prod p G_i` times the chance to come from v_k to r before the nodes between, G_i the
expected visits to v_i without those before it. Times `N_rr` and the chance to come to the class at all, that is an
upper bound of the flux of all cycles together that begin with the path (in a closed class: times the stationary chance
of r). So the search, best first by that bound, looks at no more paths than the fluxes of all cycles by that of the last
one listed, and their length. States without any arrow that carries enough are censored out beforehand
(`flowstat.analyze.cycle_flux`). Each path costs an elimination: `flowstat.analyze.flux_search` comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf, log

import numpy as np

from flowstat.analyze.cycle_flux import Censored, Flux, Fluxes
from flowstat.analyze.cycle_order import TIE, in_order
from flowstat.analyze.cycle_ways import strong
from flowstat.analyze.elimination import divisor, eliminate
from flowstat.analyze.solve import Index, Vector

__all__ = ["LARGEST", "Exact"]

BUDGET = 5_000
"""How many paths are extended before the search stops and says so."""

LARGEST = 300
"""How many states, joined by arrows that carry enough, are searched at most."""

MARGIN = 1e-6
"""By how much bounds are raised, relatively: more than rounding takes away."""

FALL = 2.0
"""By how much the least flux sought is lowered when too few cycles are found."""


@dataclass(frozen=True)
class _Piece:
    """States that are joined by arrows that carry enough."""

    c: int
    part: Censored
    scale: Vector
    moves: list[list[tuple[int, float, float]]]
    direct: Vector
    """Share times time of the arrows, (u, u); empty where cycles are counted."""


class Exact:
    """Searches classes of a chain, all closed or none.

    Parameters
    ----------
    names
        The nodes' names.
    fluxes
        Of the chain.
    inflow
        The chance to come to each class.
    arrows
        Within these classes: sources and targets, sorted by both, shares, what a cycle through each can count for at
        most, and times; the last may be empty.
    closed, longest, through
        Whether the classes are; and what cycles are sought.
    """

    def __init__(
        self,
        names: Sequence[str],
        fluxes: Fluxes,
        inflow: Vector,
        arrows: tuple[Index, Index, Vector, Vector, Vector],
        closed: bool,
        longest: int,
        through: int | None,
    ) -> None:
        self.names, self.fluxes, self.solver, self.inflow = names, fluxes, fluxes.solver, inflow
        self.rows, self.columns, self.shares, self.worth, self.times = arrows
        self.closed, self.longest, self.through = closed, longest, through

    def run(self, top: int) -> tuple[list[tuple[int, ...]], bool]:
        """Return the cycles in order, one more than wanted if there are more, and whether none is missing."""
        useful = self.worth[self.worth > 0]
        if not len(useful):
            return [], False
        at = min(len(useful), 4 * top + 8)
        least = float(np.partition(useful, len(useful) - at)[len(useful) - at])
        while True:
            whole = bool((useful >= least).all())
            all_there = whole and len(useful) == len(self.worth)
            found = self.search(0.0 if whole else least, top)
            if found is None:
                return [], False
            entries, complete = found
            sure = [e for e in entries if whole or e[0] <= -log(least) - TIE]
            if not complete or whole or len(sure) > top:
                return in_order(sure, self.names, top), complete and (all_there or len(sure) > top)
            least /= FALL

    def search(self, least: float, top: int) -> tuple[list[tuple[float, tuple[int, ...]]], bool] | None:
        """Return cycles by -log of what they count for: all of the best, above some least; and whether it is so.

        None if too many states are joined.
        """
        pieces = self.pieces(least)
        if pieces is None:
            return None
        # Entries: -bound, then those that are closed, then the longest.
        heap: list[tuple[float, int, int, int, tuple[int, ...], float, float, bool]] = []
        number = 0
        for p, piece in enumerate(pieces):
            roots = [r for r, moves in enumerate(piece.moves) if moves]
            if self.through is not None:
                roots = [int(np.searchsorted(piece.part.states, self.through))]
            for r in roots:
                number += 1
                heappush(heap, (-inf, 0, number, p, (r,), 1.0, 0.0, False))
        done: list[tuple[float, tuple[int, ...]]] = []
        values: list[float] = []
        floor, steps = least, 0
        while heap and -heap[0][0] * (1 + MARGIN) >= floor * (1 - TIE):
            _, _, _, p, path, weight, time, is_closed = heappop(heap)
            piece = pieces[p]
            if is_closed:
                nodes = tuple(piece.part.states[list(path)].tolist())
                value = self.value(self.fluxes.of([nodes])[0], piece.c) * (time if len(self.times) else 1.0)
                if value > 0:
                    done.append((-log(value), nodes))
                    values.append(value)
                if len(values) > top:
                    floor = max(floor, float(np.partition(values, -top - 1)[-top - 1]))
                continue
            steps += 1
            if steps > BUDGET:
                return done, False
            for bound, j, onward, passed in self.extend(piece, path, weight, time):
                if bound * (1 + MARGIN) >= floor * (1 - TIE) and bound > 0:
                    number += 1
                    ends = j == path[0]
                    grown = path if ends else (*path, j)
                    heappush(heap, (-bound, -len(path) - ends, number, p, grown, onward, passed, ends))
        return done, True

    def value(self, flux: Flux, c: int) -> float:
        """Return what a cycle's flux counts for."""
        return float(self.inflow[c]) * (flux.rate or 0.0) if self.closed else flux.traversals

    def pieces(self, least: float) -> list[_Piece] | None:
        """Return what arrows that carry enough join; None if these are too many states."""
        enough = self.worth >= least if least else self.worth > 0
        rows, columns, shares = self.rows[enough], self.columns[enough], self.shares[enough]
        times = self.times[enough] if len(self.times) else np.ones(len(rows))
        label = strong(self.solver.n, rows, columns)
        inside = label[rows] == label[columns]
        if self.through is not None:
            inside &= label[rows] == label[self.through]
        rows, columns, shares, times = rows[inside], columns[inside], shares[inside], times[inside]
        order = np.argsort(label[rows], kind="stable")
        found = []
        for some in np.split(order, np.flatnonzero(np.diff(label[rows[order]])) + 1):
            if len(np.unique(rows[some])) > LARGEST:
                return None
            if len(some):
                found.append(self.piece(rows[some], columns[some], shares[some], times[some]))
        return found

    def piece(self, rows: Index, columns: Index, shares: Vector, times: Vector) -> _Piece:
        """Return what some arrows join."""
        states = np.unique(rows)
        c = int(self.solver.label[states[0]])
        part = self.fluxes.censored(c, states)
        u = len(part.states)
        if self.closed:
            law = self.fluxes.law(c).values[np.searchsorted(self.solver.classes[c].states, part.states)]
            scale = float(self.inflow[c]) * law
        else:
            gone = eliminate(part.moves[0], part.out[0])
            scale = float(self.inflow[c]) * np.diagonal(gone.backward(np.eye(u)))
        moves: list[list[tuple[int, float, float]]] = [[] for _ in range(u)]
        direct = np.zeros((u, u))
        at, to = np.searchsorted(part.states, rows), np.searchsorted(part.states, columns)
        for i, j, p, t in zip(at.tolist(), to.tolist(), shares.tolist(), times.tolist(), strict=True):
            moves[i].append((j, p, t))
            direct[i, j] = p * t
        return _Piece(c, part, scale, moves, direct if len(self.times) else direct[:0])

    def extend(
        self, piece: _Piece, path: tuple[int, ...], weight: float, time: float
    ) -> list[tuple[float, int, float, float]]:
        """Return what may follow a path: bound, next node, weight up to it, and time."""
        S, out = piece.part.moves[0], piece.part.out[0]
        root, at, earlier = path[0], path[-1], np.array(path[1:-1], np.int64)
        free = np.delete(np.arange(len(out)), list(path))
        h, later = np.zeros(len(out)), np.zeros(len(out))
        never = float(out[at]) + float(S[at, root]) + float(S[at, earlier].sum())
        if len(free):
            home = S[free, root]
            barred = S[np.ix_(free, earlier)].sum(axis=1)
            over = S[free, at] if at != root else 0.0
            gone = eliminate(S[np.ix_(free, free)], out[free] + home + barred + over)
            both = gone.backward(np.stack([home, out[free] + home + barred], axis=1))
            h[free] = both[:, 0]
            never += float(S[at, free] @ both[:, 1])
            if len(piece.direct):
                h[root] = 1.0
                later[free] = gone.backward(piece.direct[free] @ h)
        grown = weight if at == root else weight / divisor(never)
        scale = float(piece.scale[root])
        passed = set(path)
        found = []
        for j, share, t in piece.moves[at]:
            onward = grown * share
            if j == root:
                found.append((scale * onward * (time + t if len(self.times) else 1.0), j, onward, time + t))
            elif j not in passed and len(path) < self.longest and (j > root or self.through is not None):
                chance = (time + t) * h[j] + later[j] if len(self.times) else h[j]
                found.append((scale * onward * float(chance), j, onward, time + t))
        return found
