"""The gains of loops: by what factor the messages in each grow from one to the next, in the long run.

All loops are multiplied with a vector at once, and what that encloses well is done; of the others each is enclosed by
itself (`flowstat.analyze.radius`). Where 1 lies within, the numbers of messages that events send decide.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy import sparse

from flowstat.analyze.elimination import UNIT
from flowstat.analyze.loop_body import in_blocks
from flowstat.analyze.offspring import EXACT, Offspring
from flowstat.analyze.perron import part_of
from flowstat.analyze.radius import enclose, sign_by_fractions
from flowstat.analyze.search import Index, Mask, Vector
from flowstat.analyze.solve import Solver
from flowstat.errors import AnalysisError

__all__ = ["Effect", "enclosed", "told"]

Effect = Literal["dampens", "keeps", "grows", "can't tell"]

ROUNDS = 100
"""How often all loops are multiplied with a vector together."""

FIRST = 30
"""After so many products loops of up to `DENSE` nodes are given to Noda's iteration."""

DENSE = 200

LARGE = 1000
"""From more nodes on a loop is one that takes long to enclose by itself."""

STEPS = 12
"""How many steps it takes at most."""

LOOKS = 10
"""After so many products those that are done are left out."""

NARROW = 1e-13
"""How narrow, relatively, an enclosure is to be that products have found."""

WIDE = 1e-10
"""How wide an enclosure by the chance to leave may be, where there is another one."""

NEAR = 1e-8
"""As near to 1 rows of shares may be off from their sum."""

TINY = 1e-280
"""Entries of a vector are kept above this."""


def enclosed(
    M: sparse.csr_array, begins: Index, unit: float, leaving: Vector | None = None, within: Mask | None = None
) -> tuple[Vector, Vector]:
    """Return a lower and an upper bound, (m,), of the spectral radius of every block on the diagonal of a matrix.

    Whatever positive x is taken, the radius lies between the least and the largest of `(M x)_i / x_i` (Collatz and
    Wielandt; Horn and Johnson, Matrix Analysis (2nd ed.), theorem 8.1.26).

    Parameters
    ----------
    M : (k, k) sparse
        Its blocks are irreducible and at least 0, with nothing beside them.
    begins : (m,)
        Where each block begins.
    unit
        How far the entries may be off, relatively.
    leaving : (k,)
        What is missing in the rows to 1; NaN where rows have other sums. Blocks without have another way.
    within : (m,)
        Large blocks of which what products with them tell is enough.

    Examples
    --------
    >>> low, high = enclosed(sparse.csr_array([[0.5, 0, 0], [0, 0, 2], [0, 0.5, 0]]), np.array([0, 1]), 0.0)
    >>> low.round(12), high.round(12)
    (array([0.5, 1. ]), array([0.5, 1. ]))
    """
    sizes = np.diff(np.append(begins, M.shape[0]))
    low, high = np.zeros(len(sizes)), np.full(len(sizes), np.inf)
    active = np.arange(len(sizes))
    A, starts, x = M, begins, np.ones(M.shape[0])
    for step in range(ROUNDS):
        y = A @ x
        with np.errstate(over="ignore"):
            quotient = y / x
        low[active] = np.maximum(low[active], np.minimum.reduceat(quotient, starts))
        high[active] = np.minimum(high[active], np.maximum.reduceat(quotient, starts))
        wide = high[active] - low[active] > NARROW * high[active]
        if not wide.any():
            break
        # With a part of x itself added, no period keeps it turning.
        counts = sizes[active]
        x = y / np.repeat(np.maximum.reduceat(y, starts), counts) + x / np.repeat(
            4 * np.maximum.reduceat(x, starts), counts
        )
        x = np.maximum(x, TINY)
        if step + 1 == FIRST:
            wide &= sizes[active] > DENSE
        if step + 1 == FIRST or (step % LOOKS == LOOKS - 1 and 2 * wide.sum() < len(active)):
            if not wide.any():
                break
            keep = np.repeat(wide, counts)
            A, x, active = sparse.csr_array(A[keep][:, keep]), x[keep], active[wide]
            starts = np.cumsum(sizes[active]) - sizes[active]
    _by_noda(M, np.append(begins, M.shape[0]), low, high)
    rounded = 1.01 * (unit + (int(np.diff(M.indptr).max(initial=0)) + 4) * UNIT)
    low, high = np.maximum(0.0, low * (1 - rounded)), high * (1 + rounded)
    for k in np.flatnonzero(~(high - low <= 10 * NARROW * high + 4 * rounded * high)).tolist():
        part = slice(int(begins[k]), int(begins[k] + sizes[k]))
        block = sparse.csr_array(M[part][:, part])
        if within is not None and within[k] and sizes[k] > LARGE:
            continue
        known = None
        if leaving is not None and sizes[k] > DENSE and not np.isnan(leaving[part]).any():
            known = _by_leaving(block, leaving[part])
        if known is None or (known[1] - known[0] > WIDE and sizes[k] <= LARGE):
            known = _by_itself(block, unit, known or (0.0, np.inf))
        low[k], high[k] = max(low[k], known[0]), min(high[k], known[1])
    return low, high


def _by_itself(block: sparse.csr_array, unit: float, known: tuple[float, float]) -> tuple[float, float]:
    """Narrow what encloses one block, if its entries are not too far apart to be worked with."""
    try:
        low, high, _ = enclose(block, unit)
    except AnalysisError:
        return known
    return max(low, known[0]), min(high, known[1])


def _by_leaving(block: sparse.csr_array, leaving: Vector) -> tuple[float, float] | None:
    """Return bounds of the radius of a block, by the chance to leave it in the long run; None if that is not found."""
    try:
        part = part_of(Solver(block, leaving), 0)
    except AnalysisError:
        return None
    off = part.leave_bound + 2 * UNIT
    return max(0.0, part.root - off), min(1.0, part.root + off)


def _by_noda(M: sparse.csr_array, ends: Index, low: Vector, high: Vector) -> None:
    """Narrow what encloses small blocks, many at once, by Noda's iteration; see `flowstat.analyze.radius`."""
    some = np.flatnonzero((high - low > NARROW * high) & (np.diff(ends) <= DENSE))
    n = M.shape[0]
    for blocks in in_blocks(M, np.zeros(n), np.arange(n), ends, some):
        A, K = blocks.A, blocks.out.shape[1]
        there = np.zeros(blocks.out.shape, bool)
        there[blocks.slot, blocks.at] = True
        x, which = np.ones(blocks.out.shape), blocks.classes
        for _ in range(STEPS):
            with np.errstate(over="ignore"):
                quotient = np.matmul(A, x[:, :, None])[:, :, 0] / x
            low[which] = np.maximum(low[which], quotient.min(axis=1, where=there, initial=np.inf))
            most = quotient.max(axis=1, where=there, initial=0.0)
            high[which] = np.minimum(high[which], most)
            if (high[which] - low[which] <= NARROW * high[which]).all():
                break
            # A little above the largest quotient the matrix is not singular.
            shifted = (most * (1 + 8 * UNIT))[:, None, None] * np.eye(K) - A
            try:
                new = np.abs(np.linalg.solve(shifted, x[:, :, None])[:, :, 0])
            except np.linalg.LinAlgError:
                break
            new = np.where(there & np.isfinite(new), new, 0.0)
            x = np.where(there, np.maximum(new / np.maximum(new.max(axis=1), TINY)[:, None], TINY), 1.0)


def told(
    law: Offspring, states: Index, low: float, high: float, alone: Literal["dampens", "keeps"] | None
) -> tuple[float, float, Effect]:
    """Return the gain of a loop, its bound, and what it does to messages, by what encloses it.

    Parameters
    ----------
    alone
        What it does if no event at it sends several messages; None if some does.

    Notes
    -----
    A loop into which no event sends several messages dampens as soon as one event sends none, whatever rounding made of
    its shares; else it keeps. Others are decided by what encloses them and, near 1, by fractions up to `EXACT` nodes.
    """
    effect: Effect = "dampens" if high < 1 else "grows" if low > 1 else "can't tell"
    if alone is not None:
        effect = alone
    elif low <= 1 + NEAR and high >= 1 - NEAR:
        effect = _decided(law, states, effect)
    if effect == "keeps":
        return 1.0, 0.0, effect
    if effect == "dampens":
        low, high = min(low, 1.0), min(high, 1.0)
    elif effect == "grows":
        low, high = max(low, 1.0), max(high, 1.0)
    middle = low + (high - low) / 2
    return middle, 1.01 * max(high - middle, middle - low) + UNIT * middle, effect


def _decided(law: Offspring, states: Index, effect: Effect) -> Effect:
    """Return what a loop does to messages by what each event sends, if its gain leaves that open (`effect`)."""
    begin = np.searchsorted(law.node, states)
    counts = np.searchsorted(law.node, states, "right") - begin
    lines = np.repeat(begin - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
    within = np.zeros(len(law.stop))
    within[states] = 1.0
    sent = law.sent[lines] @ within
    if (sent <= 1).all():
        return "dampens" if (sent == 0).any() or law.stop[states].any() else "keeps"
    if effect != "can't tell" or len(states) > EXACT:
        return effect
    sign = sign_by_fractions(law, states)
    return "dampens" if sign > 0 else "grows" if sign < 0 else "keeps"
