"""How often runs go round given cycles: their fluxes, by elimination, with proven bounds.

The flux of a cycle c is how often loop-erasure closes it in a run, `n_c = P(hit c) prod p det N[c, c]`; in a closed
class, per event in the long run, `w_c = prod p D(not c) / sum_j D(not j)` with D the determinants of I - P on what is
named. With all other states censored out and c eliminated from its last node to its first, the pivots are the chances
not to come back, `det N[c, c]` is the product of their reciprocals, and `w_c` is the stationary chance of the first
node times prod p over the pivots of the others: nothing is subtracted. Sources: Lawler and Limic, Random Walk (2010),
section 9; Jiang, Qian and Qian, Mathematical Theory of Nonequilibrium Steady States (LNM 1833, 2004), chapter 1;
Kalpazidou, Cycle Representations of Markov Processes (2nd ed., 2006).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from flowstat.analyze.cycle_columns import ByColumns
from flowstat.analyze.cycle_pivots import add_outer, eliminated, orders_of, product, spread_of
from flowstat.analyze.elimination import UNIT, divisor, rounding
from flowstat.analyze.law import TINY
from flowstat.analyze.solve import DENSE, SLICE, Index, Solved, Solver, Vector
from flowstat.errors import AnalysisError

__all__ = ["Censored", "Flux", "Fluxes"]

Path = tuple[int, ...]

WHOLE = 64
"""Up to how many states of a class nothing is censored out beforehand."""

TOGETHER = 64, 256
"""Up to how many nodes cycles may have between them to be looked at together: in small classes, and in large ones."""

LONGEST = 2 * DENSE
"""Longer cycles are refused: their elimination is dense."""

CELLS = 2_000_000


@dataclass(frozen=True)
class Flux:
    """How often a run goes round a cycle (`inf` in a closed class that is reached), and how far that may be off.

    In a closed class `rate` is how often it is closed per event in the long run; else it is None. `size` is log of the
    rate, or else of the traversals, and known where these are too small to be: -inf only if runs come to the cycle with
    a chance below 5e-324.
    """

    traversals: float
    error_bound: float
    rate: float | None = None
    rate_bound: float = 0.0
    size: float = -np.inf


@dataclass(frozen=True)
class Censored:
    """Some states of a class with all others censored out.

    Attributes
    ----------
    states : (u,)
    moves : (3, u, u)
        Chances to come next to each of them: as computed, the least, and the most that they may be.
    out : (3, u)
        Chances to leave the class before.
    inflow : (u, 2)
        Chance to come to them first at each, and how far that may be off.
    off
        How far the answers may be off relatively through rounding, beyond what `moves` and `out` tell.
    """

    states: Index
    moves: Vector
    out: Vector
    inflow: Vector
    off: float


class Fluxes:
    """Finds the fluxes of cycles of a chain.

    Parameters
    ----------
    solver
        The chain's solver.
    entered
        First inflow of runs, as from `Solver.visits`.
    """

    def __init__(self, solver: Solver, entered: Solved) -> None:
        self.solver = solver
        self.entered = entered
        self.key = solver.rows * solver.n + solver.P.indices
        self._whole: dict[int, Censored] = {}
        self._columns: dict[int, ByColumns] = {}
        self._laws: dict[int, Solved] = {}

    def shares(self, sources: Index, targets: Index) -> Vector:
        """Return the shares of arrows that are there."""
        return self.solver.P.data[np.searchsorted(self.key, sources * self.solver.n + targets)]

    def of(self, paths: Sequence[Path]) -> list[Flux]:
        """Return the flux of each of some cycles, given by their positions.

        Raises
        ------
        AnalysisError
            If a cycle has more than 3,000 nodes, or its class is too large and too close to closed to be solved.
        """
        found: dict[int, Flux] = {}
        groups: dict[int, list[int]] = {}
        for k, path in enumerate(paths):
            groups.setdefault(int(self.solver.label[path[0]]), []).append(k)
        for c, members in groups.items():
            part = self.solver.classes[c]
            if not part.closed and not self.entered.values[part.states].any():
                found.update((k, Flux(0.0, 0.0)) for k in members)
                continue
            if len(part.states) > max(DENSE, 1):
                quick = self.columns(c).sizes([paths[k] for k in members])
                settled = [(k, *size) for k, size in zip(members, quick, strict=True) if size is not None]
                found.update((k, self._settled(c, paths[k], *size)) for k, *size in settled)
                members = [k for k, size in zip(members, quick, strict=True) if size is None]
            for some in self._together(part.states, [(k, paths[k]) for k in members]):
                found.update(zip((k for k, _ in some), self._measure(c, [path for _, path in some]), strict=True))
        return [found[k] for k in range(len(paths))]

    def _together(self, states: Index, cycles: list[tuple[int, Path]]) -> list[list[tuple[int, Path]]]:
        """Return cycles of a class in groups that have not too many nodes between them."""
        if len(states) <= WHOLE:
            return [cycles] if cycles else []
        # One elimination of the class, and for each cycle one of what they have between them.
        least, most = TOGETHER
        most = min(most, max(least, int((3 * len(states) ** 3) ** 0.25))) if len(states) <= DENSE else least
        groups: list[list[tuple[int, Path]]] = []
        nodes: set[int] = set()
        for k, path in cycles:
            nodes.update(path)
            if not groups or len(nodes) > most:
                groups.append([])
                nodes = set(path)
            groups[-1].append((k, path))
        return groups

    def columns(self, c: int) -> ByColumns:
        """Return a class with what is known of its columns."""
        if c not in self._columns:
            self._columns[c] = ByColumns.of(self.solver, c, self.entered)
        return self._columns[c]

    def law(self, c: int) -> Solved:
        """Return the stationary law of a closed class."""
        if c not in self._laws:
            states = self.solver.classes[c].states
            one = Solved(np.ones(1), np.zeros(1))
            self._laws[c] = one if len(states) == 1 else self.solver.stationary(states)
        return self._laws[c]

    def censored(self, c: int, states: Index) -> Censored:
        """Return some states of a class with all others censored out.

        Raises
        ------
        AnalysisError
            If these are too many, or the class is too large and too close to closed to be solved.
        """
        part = self.solver.classes[c]
        if len(part.states) <= WHOLE:
            if c not in self._whole:
                self._whole[c] = self._dense(part.states, part.states[:0])
            return self._whole[c]
        if len(states) > LONGEST:
            raise AnalysisError(f"a cycle of more than {LONGEST:,} nodes is too long for its traversals")
        rest = np.setdiff1d(part.states, states)
        return self._dense(states, rest) if len(part.states) <= DENSE or not len(rest) else self._sparse(states, rest)

    def _settled(self, c: int, path: Path, det: float, hit: float, wrong: float) -> Flux:
        """Return a cycle's flux from its determinant and the chance to come to it, off by so much relatively."""
        nodes, often = np.array(path), 1.0
        wrong += (len(path) + 4) * UNIT
        if self.solver.classes[c].closed:
            law = self.law(c)
            at = int(np.searchsorted(self.solver.classes[c].states, self.columns(c).home))
            often = float(law.values[at])
            wrong += 1.01 * float(law.bound[at]) / often
        value, size = (
            x[0].item() for x in product(np.array([[*self.shares(nodes, np.roll(nodes, -1)), det, hit, often]]))
        )
        bound = 1.01 * wrong * value + TINY
        return self._endless(c, value, bound, size) if often < 1.0 else Flux(value, bound, None, 0.0, size)

    def _endless(self, c: int, rate: float, bound: float, size: float) -> Flux:
        """Return the flux of a cycle of a closed class."""
        reached = bool(self.entered.values[self.solver.classes[c].states].any())
        return Flux(np.inf if reached else 0.0, 0.0, rate, bound, size)

    def _dense(self, states: Index, rest: Index) -> Censored:
        ordered = np.concatenate([states, rest])
        u, n = len(states), len(ordered)
        A, out = self.solver.block(ordered), self.solver.exits[ordered].copy()
        inflow = np.stack([self.entered.values[ordered], self.entered.bound[ordered]], axis=1)
        for k in range(n - 1, u - 1, -1):
            pivot = divisor(A[k, :k].sum() + out[k])
            into = A[:k, k] / pivot
            inflow[:k] += np.multiply.outer(A[k, :k], inflow[k] / pivot)
            add_outer(A[:k, :k], into, A[k, :k])
            out[:k] += into * out[k]
        # What is stored of a row may be off by a unit of its sums, and that in each factor of a product.
        off = rounding(n) + 2 * n * self.solver.unit
        return Censored(states, A[None, :u, :u], out[None, :u], inflow[:u], off)

    def _sparse(self, states: Index, rest: Index) -> Censored:
        solver, u = self.solver, len(states)
        P = solver.P
        onward = sparse.csr_array(P[rest])
        into, over = sparse.csc_array(onward[:, states]), sparse.csr_array(P[states][:, rest])
        # Leaving the rest, to the states or out of the class, is leaving for good.
        away = np.asarray(into.sum(axis=1)).ravel() + solver.exits[rest]
        left = Solver(sparse.csr_array(onward[:, rest]), away, solver.tolerance)
        moves, moves_off = P[states][:, states].toarray(), np.zeros((u, u))
        out, out_off = solver.exits[states].copy(), 2 * solver.unit * solver.exits[states]
        first, doubt = self.entered.values, self.entered.bound
        inflow = np.stack([first[states], doubt[states]], axis=1)
        unit = solver.unit + solver.inward
        width = max(1, min(SLICE, CELLS // 3 // len(rest)))
        begins = range(0, u, width)
        for begin in begins:
            columns = np.arange(begin, min(begin + width, u))
            gain = into[:, columns].toarray()
            if begin == begins[-1]:
                gain = np.hstack([gain, solver.exits[rest][:, None]])
            x = left.backward(gain, 0.0, unit * gain)
            value, off = over @ x.values, over @ x.bound + 2 * unit * (over @ x.values)
            w = len(columns)
            moves[:, columns] += value[:, :w]
            moves_off[:, columns] = off[:, :w]
            inflow[columns, 0] += first[rest] @ x.values[:, :w]
            doubtful = first[rest] @ x.bound[:, :w] + doubt[rest] @ (x.values + x.bound)[:, :w]
            inflow[columns, 1] += doubtful + (len(rest) + 4) * UNIT * inflow[columns, 0]
            if gain.shape[1] > w:
                out += value[:, w]
                out_off += off[:, w]
        moves_off, out_off = 1.01 * (moves_off + 4 * UNIT * moves), 1.01 * (out_off + 4 * UNIT * out)
        each = np.stack([moves, np.maximum(moves - moves_off, 0.0), moves + moves_off])
        least = np.stack([out, np.maximum(out - out_off, 0.0), out + out_off])
        return Censored(states, each, least, inflow, 0.0)

    def _measure(self, c: int, paths: list[Path]) -> list[Flux]:
        """Return the fluxes of cycles of a class."""
        closed = self.solver.classes[c].closed
        part = self.censored(c, np.unique(np.concatenate([np.array(path) for path in paths])))
        u = len(part.states)
        found: list[Flux] = []
        step = max(1, CELLS // (u * u))
        for begin in range(0, len(paths), step):
            some = paths[begin : begin + step]
            lengths = np.array([len(path) for path in some])
            orders = orders_of(part.states, some)
            shares = [self.shares(np.array(path), np.array([*path[1:], path[0]])) for path in some]
            factors = np.ones((len(some), int(lengths.max())))
            for k, p in enumerate(shares):
                factors[k, : len(p)] = p
            variants = zip(part.moves, part.out, strict=True)
            made = [eliminated(m, o, part.inflow, orders, lengths, closed) for m, o in variants]
            pivots, hit = made[0]
            used = np.arange(factors.shape[1]) < lengths[:, None]
            used[:, 0] &= not closed
            factors /= np.where(used, pivots[:, : factors.shape[1]], 1.0)
            value, size = product(factors)
            off = 2 * (part.off + rounding(u)) + 8 * (lengths + 4) * UNIT
            if len(made) > 1:
                spread, doubt = spread_of(made, lengths, closed)
                off, hit = off + spread, np.stack([hit[:, 0], hit[:, 1] + doubt], axis=1)
            found += self._fluxes(c, value, size, off, hit, [path[0] for path in some])
        return found

    def _fluxes(self, c: int, value: Vector, size: Vector, off: Vector, hit: Vector, firsts: list[int]) -> list[Flux]:
        part = self.solver.classes[c]
        if part.closed:
            law = self.law(c)
            at = np.searchsorted(part.states, firsts)
            rates = value * law.values[at]
            bounds = rates * off + (1 + off) * value * law.bound[at]
            with np.errstate(divide="ignore"):
                sizes = size + np.log(law.values[at])
            lines = zip(rates.tolist(), (1.01 * bounds + TINY).tolist(), sizes.tolist(), strict=True)
            return [self._endless(c, *line) for line in lines]
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            times, sizes = value * hit[:, 0], size + np.log(hit[:, 0])
            bounds = 1.01 * (times * off + (1 + off) * value * hit[:, 1]) + TINY
        if not np.isfinite(times).all():
            raise AnalysisError("a class is too close to closed: how often its cycles are gone round overflows")
        bounds = np.where(np.isfinite(bounds), bounds, np.inf)
        found = zip(times.tolist(), bounds.tolist(), sizes.tolist(), strict=True)
        return [Flux(t, b, None, 0.0, each) for t, b, each in found]
