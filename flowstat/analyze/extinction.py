"""Whether runs die out: which of them never end, and with what chance."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from flowstat.analyze.fixed_point import fixed_point
from flowstat.analyze.offspring import Offspring
from flowstat.analyze.radius import Radius
from flowstat.analyze.search import Index, Mask, backwards
from flowstat.analyze.solve import Solved, Solver

__all__ = ["mortal", "survival"]


def survival(law: Offspring, found: list[Radius]) -> tuple[Solved, Mask]:
    """Return the chance that a run from each node never dies out, (n,), and from which nodes that can't be told.

    Notes
    -----
    A run dies out for certain unless it can come to a class with a root above 1, or to one in which each event sends
    just one message to the class: a deterministic cycle never ends, though its root is 1. Where it can, and where it
    can also die, the chance to survive is the only positive fixed point of the complement of the generating functions
    (Harris, The Theory of Branching Processes (1963), section II.7; Athreya and Ney, Branching Processes (1972),
    chapter V).
    """
    n = len(law.stop)
    vague, lasting = np.zeros(n, bool), np.zeros(n, bool)
    for radius in found:
        lasting[radius.states] = radius.for_ever or radius.verdict == "multiplies"
        vague[radius.states] = radius.verdict == "can't tell"
    if not law.fans_out:
        # A lineage: what never ends is in a trap.
        return Solver(law.chain.P, law.chain.stop).backward(np.zeros(n), closed=1.0), vague
    doubtful = backwards(law.mean, vague).inside if vague.any() else vague
    known = np.zeros(n)
    living = backwards(law.mean, lasting).inside if lasting.any() else lasting
    known[living] = np.nan
    known[~mortal(law, ~living | doubtful)] = 1.0
    known[doubtful] = 0.0
    return fixed_point(law, known), doubtful


def mortal(law: Offspring, sure: Mask) -> Mask:
    """Return from which nodes a run can die out at all, (n,); those of `sure` do."""
    missing = np.bincount(law.line, weights=~sure[law.sent.indices], minlength=len(law.node)).astype(np.int64)
    dying = sure | (law.stop > 0)
    dying[law.node[missing == 0]] = True
    columns = sparse.csr_array((law.sent.data, law.sent.indices, law.sent.indptr), shape=law.sent.shape).tocsc()
    frontier: Index = np.flatnonzero(dying & ~sure)
    while len(frontier):
        begins, ends = columns.indptr[frontier], columns.indptr[frontier + 1]
        lines = columns.indices[_ranges(begins.astype(np.int64), ends.astype(np.int64))]
        np.subtract.at(missing, lines, 1)
        new = np.unique(law.node[lines[missing[lines] == 0]])
        frontier = new[~dying[new]]
        dying[frontier] = True
    return dying


def _ranges(begins: Index, ends: Index) -> Index:
    """Return the whole numbers of several ranges, one after the other."""
    sizes = ends - begins
    steps = np.repeat(begins - np.concatenate([[0], np.cumsum(sizes)[:-1]]), sizes)
    return np.asarray(steps + np.arange(int(sizes.sum())), np.int64)
