"""What the flux of a cycle is at most, as a product over its arrows.

A cycle c from node r has the flux `P(hit c) prod p det N[c, c]`, and with N of the class without the nodes before each,
`det N[c, c] = N_rr prod G_k`; G_k is no more than without the node before it alone, `N_kk - N_kj N_jk / N_jj`. Of runs
that come to c but never to r, some node u of c is the last one on the way to r that they come to, and they don't go
on from there: with h the chance to come to each node, and r the node of c that runs come to most often,

    P(hit c) <= h_r + sum_u h_u (1 - p~_u) <= h_r prod_u (2 - p~_u),

p~_u the share of the cycle's arrow among all that lead away from u. In a closed class the flux per event is
`pi_r prod p prod G_k`. So logarithms of what an arrow brings are added up; potentials make them a cost of at least 0.

In a class of up to `DENSE` states all G_k of a path are known, from the inverse X of the class without one state,
its home: with f the chance to come home, v the visits between its returns, and g the chance never to return,
`N = X + f v' / g`, and what is left of N without r is a quotient in which g may be 0. Bounds of the error of X
as in `flowstat.analyze.large`. In a larger class see `flowstat.analyze.near_visits`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from flowstat.analyze.cycle_columns import ByColumns
from flowstat.analyze.cycle_flux import Fluxes
from flowstat.analyze.elimination import UNIT
from flowstat.analyze.near_visits import near_visits
from flowstat.analyze.solve import DENSE, Index, Solved, Solver, Vector
from flowstat.errors import AnalysisError

__all__ = ["MARGIN", "Inverses", "Limits"]

MARGIN = 1e-6
"""By how much bounds are raised, in logarithms: more than rounding takes away."""

LITTLE = 0.02
"""What may be left to the bounds of visits of a large class."""

KEPT = 20_000_000
"""How many numbers of inverses are kept."""


class Inverses:
    """Inverses of classes without their homes, one after the other: so many numbers of a chain of n states."""

    def __init__(self, n: int, cells: int) -> None:
        self.X = np.empty(cells)
        self.used = 0
        self.base = np.full(n, -1)
        self.size = np.zeros(n, np.int64)
        self.local = np.zeros(n, np.int64)
        self.f, self.v = np.ones(n), np.ones(n)
        self.never, self.off = np.zeros(n), np.zeros(n)

    def add(self, solver: Solver, states: Index, home: int) -> bool:
        """Take in a class; return whether anything could be proven of its inverse."""
        k = len(states)
        block = solver.block(states)
        others = np.delete(np.arange(k), home)
        A = -block[np.ix_(others, others)]
        np.fill_diagonal(A, solver.moving[states[others]])
        try:
            X = np.linalg.inv(A)
        except np.linalg.LinAlgError:
            return False
        size = np.abs(X)
        left = np.abs(np.eye(k - 1) - A @ X) + (k + 4) * UNIT * (np.abs(A) @ size + 1) + solver.unit * np.abs(A) @ size
        if not left.sum(axis=1).max(initial=0.0) < 0.5:
            return False
        stay = size.sum(axis=1).max(initial=0.0) / (1 - left.sum(axis=1).max(initial=0.0))
        off = 1.01 * stay * float(left.max(initial=0.0)) + (k + 8) * UNIT * stay
        whole = np.zeros((k, k))
        whole[np.ix_(others, others)] = np.maximum(X, 0.0)
        to, fro, out = block[others, home], block[home, others], solver.exits[states]
        self.f[states[others]] = np.maximum(X @ to, 0.0)
        self.v[states[others]] = np.maximum(fro @ X, 0.0)
        self.never[states] = out[home] + self.v[states[others]] @ out[others]
        # No chance is off by more than as many times as there are terms, but they sum to 1.
        self.off[states] = off * max(1.0, float(out.sum()), float(to.sum()))
        self.base[states], self.size[states], self.local[states] = self.used, k, np.arange(k)
        self.X[self.used : self.used + k * k] = whole.ravel()
        self.used += k * k
        return True

    def among(self, r: Index, j: Index, k: Index) -> tuple[Vector, Vector]:
        """Return the visits of k from j before r is come to, and how far they may be off; all of one class."""
        base, size = self.base[r], self.size[r]
        lr, lj, lk = self.local[r], self.local[j], self.local[k]
        rr, jk = self.X[base + lr * size + lr], self.X[base + lj * size + lk]
        rk, jr = self.X[base + lr * size + lk], self.X[base + lj * size + lr]
        fr, vr, fj, vk = self.f[r], self.v[r], self.f[j], self.v[k]
        never, off = self.never[r], self.off[r]
        parts = never * rr * jk, rr * fj * vk, jk * fr * vr
        minus = never * rk * jr, rk * fj * vr, jr * fr * vk
        under = never * rr + fr * vr
        size_of = parts[0] + parts[1] + parts[2] + minus[0] + minus[1] + minus[2]
        wrong = never * (rr + jk + rk + jr) + rr * (fj + vk + rk + jk) + jk * (fr + vr) + fj * vk + fr * vr
        wrong = wrong + fj * vr + rk * (fj + vr + jr) + fr * vk + jr * (fr + vk)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            value = (parts[0] + parts[1] + parts[2] - minus[0] - minus[1] - minus[2]) / under
            lost = off * (never + rr + fr + vr) / under
            doubt = (1.1 * off * wrong + 16 * UNIT * size_of) / under + 1.1 * np.abs(value) * lost
        bad = ~(np.isfinite(value) & np.isfinite(doubt) & (lost < 0.1))
        return np.where(bad, 0.0, value), np.where(bad, np.inf, doubt)


@dataclass(frozen=True)
class Limits:
    """Bounds of nodes (n,) and of arrows (m,) in logarithms; `inf` where nothing is known.

    Attributes
    ----------
    order
        Cycles are written from their node with the largest one.
    most
        What cycles from a node count for at most, to which what arrows bring is added.
    all_in
        The same, where every run that comes to the class is counted.
    least
        What they count for at least, but for the same.
    again
        G at an arrow's end, without its begin.
    missed
        What is added for runs that come to the cycle at an arrow's begin.
    away
        The chance to leave a node with a step.
    """

    order: Vector
    most: Vector
    all_in: Vector
    least: Vector
    again: Vector
    missed: Vector
    away: Vector
    inverses: Inverses

    def at(self, arrows: Index) -> Limits:
        """Return the limits with those of some arrows only."""
        return replace(self, again=self.again[arrows], missed=self.missed[arrows])

    @staticmethod
    def of(
        fluxes: Fluxes, inflow: Vector, visited: Solved, closed: bool, rows: Index, columns: Index, shares: Vector
    ) -> Limits:
        """Return the limits of arrows within classes; of all others nothing is said.

        Parameters
        ----------
        inflow
            Chance to come to each class.
        visited : (n,)
            Visits of states; in closed classes the stationary law times the chance to come to the class.
        """
        solver, n = fluxes.solver, fluxes.solver.n
        label = solver.label
        most, all_in = np.full(n, np.inf), np.full(n, np.inf)
        again = np.full(len(rows), np.inf)
        sizes = np.array([len(solver.classes[c].states) for c in np.unique(label[rows]).tolist()], np.int64)
        cells = np.where((sizes > 1) & (sizes <= DENSE), sizes, 0) ** 2
        inverses = Inverses(n, int(cells[np.cumsum(cells) <= KEPT].sum()))
        high, low = visited.values + visited.bound, np.maximum(visited.values - visited.bound, 0.0)
        kappa = np.full(n, np.inf)
        order = np.argsort(label[rows], kind="stable")
        cuts = np.flatnonzero(np.diff(label[rows[order]])) + 1
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            for some in np.split(order, cuts) if len(rows) else ():
                c = int(label[rows[some[0]]])
                states = solver.classes[c].states
                if len(states) == 1:
                    continue
                entry = float(inflow[c])
                known = len(states) <= DENSE and inverses.used + len(states) ** 2 <= len(inverses.X)
                if known and inverses.add(solver, states, int(np.argmax(visited.values[states]))):
                    i, j = rows[some], columns[some]
                    value, doubt = inverses.among(i, j, j)  # of loops of one node: 0
                    again[some] = np.log(np.maximum((value + doubt) * solver.moving[j], 1.0))
                    if closed:
                        continue
                    chance = _reached(inverses, fluxes, states)
                    least = np.maximum(chance.values - chance.bound, 0.0)
                    kappa[states] = np.minimum(chance.values + chance.bound, entry)
                    all_in[states] = np.log(entry * high[states] / least)
                    most[states] = np.log(kappa[states] * high[states] / least)
                elif not closed:
                    g, ahead = _near(fluxes.columns(c), some, rows, columns)
                    again[some] = np.log(np.maximum(ahead * solver.moving[columns[some]], 1.0))
                    kappa[states] = np.minimum(high[states] * solver.moving[states], entry)
                    all_in[states] = np.log(entry * g)
                    most[states] = np.log(kappa[states] * g)
            if closed:
                kappa = high
                most = all_in = np.log(high)
            away = solver.moving
            jump = np.minimum(shares / away[rows], 1.0)
            # What leads from a node to itself is left out: its other arrows share the rest.
            return Limits(
                np.log(kappa),
                np.where(np.isnan(most), np.inf, most + np.log(away)),
                np.where(np.isnan(all_in), np.inf, all_in + np.log(away)),
                np.log(low * away),
                again,
                np.zeros(len(rows)) if closed else np.log(2 - jump),
                np.log(away),
                inverses,
            )


def _reached(inverses: Inverses, fluxes: Fluxes, states: Index) -> Solved:
    """Return the chance to come to each state of a class."""
    base, k = int(inverses.base[states[0]]), len(states)
    X = inverses.X[base : base + k * k].reshape(k, k)
    f, v = inverses.f[states], inverses.v[states]
    never, off = float(inverses.never[states[0]]), float(inverses.off[states[0]])
    entered, doubt = fluxes.entered.values[states], fluxes.entered.bound[states]
    diagonal = X.diagonal()
    under = never * diagonal + f * v
    # Visits from where runs come in, by those from the state itself.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        value = (never * (entered @ X) + (entered @ f) * v) / under
        lost = off * (never + diagonal + f + v) / under
        sure = off * (entered.sum() * (never + v) + entered @ f + entered @ X) / under
        bound = 1.1 * sure + 1.1 * value * (lost + (k + 8) * UNIT) + 1.1 * doubt.sum()
    bad = ~(np.isfinite(value + bound) & (lost < 0.1))
    return Solved(np.where(bad, 0.0, value), np.where(bad, np.inf, bound))


def _near(columns: ByColumns, some: Index, rows: Index, targets: Index) -> tuple[Vector, Vector]:
    """Return upper bounds of `N_ii` for the states of a large class, and of G at the end of some of its arrows."""
    states, block = columns.states, columns.inner.P
    try:
        stay = columns.stay
    except AnalysisError:
        return np.full(len(states), np.inf), np.full(len(some), np.inf)
    near = near_visits(block, stay.values + stay.bound, LITTLE)
    begins = np.repeat(np.arange(len(states)), np.diff(block.indptr))
    key = begins * len(states) + block.indices
    i, j = np.searchsorted(states, rows[some]), np.searchsorted(states, targets[some])
    at = np.searchsorted(key, i * len(states) + j)
    ahead: Vector = near.most[j] - near.forth[at] * near.back[at] / near.most[i]
    return near.most, ahead
