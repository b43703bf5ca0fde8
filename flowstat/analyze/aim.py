"""What runs are to come to: some nodes, or their end; with the chances, from every state, that they do and do not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from flowstat.analyze.elimination import UNIT
from flowstat.analyze.search import Index, Mask, Tree, Vector, backwards, cut, reachable
from flowstat.analyze.solve import Solved, Solver
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import END, Chain
from flowstat.read.words import shown
from flowstat.results import number

__all__ = ["Aim", "Targets", "aim_at", "arrives", "chance", "completed", "node_mask", "weighted", "why_missed"]

Targets = str | Iterable[str]
"""A node, or several: a set that is reached with the first of them."""


@dataclass(frozen=True)
class Aim:
    """A chain whose runs are watched until they come to some nodes, or end.

    Attributes
    ----------
    names
        What is aimed at: nodes, or `(end)`.
    inside : (n,)
        The states that are aimed at; none where it is the end.
    tree
        How far every state is from there, in steps.
    """

    chain: Chain
    names: tuple[str, ...]
    inside: Mask
    tree: Tree

    @property
    def able(self) -> Mask:
        """The states that can get there, (n,)."""
        return self.tree.inside

    @property
    def ends(self) -> bool:
        """Whether it is the end of the run that is waited for."""
        return self.names == (END,)

    @cached_property
    def arrows(self) -> sparse.csr_array:
        """The arrows that a run takes before it is there, or can't get there any more."""
        return cut(self.chain.P, self.inside | ~self.able)

    @cached_property
    def last(self) -> Vector:
        """The chance to be there with the next step, (n,); 0 for those that are there, or can't get there."""
        if self.ends:
            return np.where(self.able, self.chain.stop, 0.0)
        chances: Vector = self.arrows @ self.inside.astype(np.float64)
        return chances

    @cached_property
    def doubtful(self) -> Mask:
        """The states from which a run may fail to get there, (n,)."""
        lost = ~self.able
        if not self.ends:
            lost |= (self.chain.stop > 0) & ~self.inside
        return backwards(self.arrows, lost).inside if lost.any() else lost

    @cached_property
    def solver(self) -> Solver:
        """Solves on the way there: whoever is there, or can't get there, is out."""
        return Solver(self.arrows, np.where(self.inside | ~self.able, 1.0, self.chain.stop))

    @cached_property
    def chances(self) -> tuple[Solved, Solved]:
        """The chance to get there from every state, and that to fail; both (n,)."""
        gain = np.zeros((len(self.inside), 2))
        gain[:, 0] = np.where(self.able, self.chain.stop, 0.0) if self.ends else self.inside
        gain[:, 1] = 0.0 if self.ends else np.where(self.inside, 0.0, self.chain.stop)
        gain[~self.able, 1] = 1.0
        made = completed(self.solver.backward(gain))
        hit, miss = (Solved(made.values[:, k], made.bound[:, k]) for k in range(2))
        for solved, possible in ((hit, self.able), (miss, self.doubtful)):
            # Chances below all numbers are 0, and off by no more than the smallest.
            solved.bound[possible & (solved.values < 1e-290)] += 1e-290
        return hit, miss


def node_mask(chain: Chain, targets: Targets) -> Mask:
    """Return which states some names are, (n,).

    Raises
    ------
    AnalysisError
        If no node is named, or one that the chain does not have.
    """
    if not isinstance(targets, Iterable):
        raise AnalysisError(f"targets are nodes, by their names, not {shown(repr(targets))}")
    names = (targets,) if isinstance(targets, str) else tuple(targets)
    if not names:
        raise AnalysisError("name at least one node to come to")
    mask = np.zeros(len(chain.names), bool)
    for name in names:
        if name not in chain.index:
            few = ", ".join(map(shown, chain.names[:8]))
            more = ", ..." * (len(chain.names) > 8)
            raise AnalysisError(f"no node is called {shown(str(name))!r}: the nodes are {few}{more}")
        mask[chain.index[name]] = True
    return mask


def aim_at(chain: Chain, targets: Targets | None) -> Aim:
    """Return the aim to come to some nodes, or, without any, to the end of the run."""
    if targets is None:
        return Aim(chain, (END,), np.zeros(len(chain.names), bool), backwards(chain.P, chain.stop > 0))
    inside = node_mask(chain, targets)
    names = tuple(chain.names[i] for i in np.flatnonzero(inside))
    return Aim(chain, names, inside, backwards(chain.P, inside))


def completed(of: Solved) -> Solved:
    """Return chances that sum to 1 by row, (n, k), the largest of each row as what the others leave.

    So a chance of 1 - 1e-20 is not off by more than the 1e-20 is, and the last rounding.
    """
    values, bound = of.values.copy(), of.bound.copy()
    rows, largest = np.arange(len(values)), values.argmax(axis=1)
    rest, doubt = values.copy(), bound.copy()
    rest[rows, largest] = doubt[rows, largest] = 0.0
    others = rest.sum(axis=1)
    doubts = 1.01 * (doubt.sum(axis=1) + (values.shape[1] + 1) * UNIT * others) + np.where(others > 0, UNIT, 0.0)
    better = doubts < bound[rows, largest]
    values[rows[better], largest[better]] = np.maximum(0.0, 1.0 - others[better])
    bound[rows[better], largest[better]] = doubts[better]
    return Solved(values, bound)


def weighted(law: Vector, of: Solved) -> tuple[float, float]:
    """Return the mean of an answer over a law, and its bound."""
    some: Index = np.flatnonzero(law)
    terms = law[some] * of.values[some]
    off = float((law[some] * of.bound[some]).sum()) + (len(some) + 3) * UNIT * float(np.abs(terms).sum())
    return float(terms.sum()), 1.01 * off


def arrives(names: tuple[str, ...]) -> str:
    """Return what runs do that get to what is aimed at, as a verb: `comes to a, b` or `ends`."""
    return "ends" if names == (END,) else f"comes to {', '.join(map(shown, names))}"


def chance(value: float) -> float:
    """Return a chance as one: rounding may have made it more than 1."""
    return min(1.0, value)


def why_missed(aim: Aim, law: Vector, miss: Solved) -> str:
    """Say why runs may never come to the targets."""
    chain = aim.chain
    if not (law[aim.able] > 0).any():
        return "nothing leads there from the start"
    live = reachable(aim.arrows, law > 0)
    ends = np.flatnonzero(live & aim.able & ~aim.inside & (chain.stop > 0))
    astray = np.flatnonzero(live & ~aim.able)
    ways = [f"end before, such as at {shown(chain.names[ends[0]])}"] if len(ends) else []
    ways += [f"come where nothing leads there, such as to {shown(chain.names[astray[0]])}"] if len(astray) else []
    missed = chance(weighted(law, miss)[0])
    return f"with probability {number(missed)} runs {' or '.join(ways)}"
