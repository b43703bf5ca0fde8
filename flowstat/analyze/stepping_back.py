"""Steps of chances back: from every state, whether runs get there within so many; with how rounding adds up.

Many steps through many arrows are taken by compiled code (numba, if it is there), on all cores: each number is the sum
of the same terms in the same order, whoever adds them up.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import sparse

from flowstat.analyze.aim import Aim
from flowstat.analyze.compiled import compiled
from flowstat.analyze.elimination import UNIT
from flowstat.analyze.search import Index, Vector
from flowstat.analyze.stepping import BLOCK, FEW

__all__ = ["followed", "rounded", "stepped_back"]

LOOK = 16
"""After how many steps it is looked whether anything still changes."""

WORTH = 10**8
"""From how many arrows followed on compiled code follows them: less is done before it would have been compiled."""

SHARED = 500_000
"""From how many arrows on all cores take a step together."""

CORES = 4
"""How many at most: memory is no faster for more."""


def rounded(aim: Aim, way: Index, steps: int) -> float:
    """Return how far `stepped_back` is off, relatively."""
    longest = int(np.diff(aim.chain.P.indptr).max(initial=0))
    if _doubles(way, steps):
        longest = max(longest, len(way))
    return float(1.01 * np.expm1(min(700.0, (min(steps, 10**300) + 1) * (longest + 4) * UNIT)))


def followed(aim: Aim, way: Index, steps: int) -> int:
    """Return how many arrows `stepped_back` follows, about."""
    return len(way) if _doubles(way, steps) else steps * int(aim.chain.P.nnz * len(way) / aim.chain.P.shape[0] + 1)


def stepped_back(aim: Aim, way: Index, steps: int) -> Vector:
    """Return the chance to get there within so many steps from some states.

    `way` has every state on the way from them that is near enough.
    """
    last = aim.last[way]
    Q = aim.chain.P if len(way) == aim.chain.P.shape[0] else sparse.csr_array(aim.arrows[way][:, way])
    if _doubles(way, steps):
        return _doubled(Q.toarray(), last, steps)
    if Q.nnz * steps >= WORTH and (step := _compiled()) is not None:
        return _shared(step, Q, last, steps)
    y = np.zeros(len(way))
    for k in range(steps):
        onward = last + Q @ y
        if k % LOOK == LOOK - 1 and np.array_equal(onward, y):
            break
        y = onward
    return y


def _doubles(way: Index, steps: int) -> bool:
    return len(way) <= FEW and steps > 4 * BLOCK


def _doubled(power: Vector, gained: Vector, steps: int) -> Vector:
    """Return what is gained within so many steps: the binary digits of their number say which powers to take."""
    y = np.zeros(len(gained))
    while True:
        if steps & 1:
            y = gained + power @ y
        steps >>= 1
        if not steps:
            return y
        gained = gained + power @ gained
        power = power @ power


def _shared(step: Any, Q: sparse.csr_array, last: Vector, steps: int) -> Vector:
    """Take steps by compiled code: each of them on all cores, if it is long enough."""
    n = len(last)
    y, z = np.zeros(n), np.zeros(n)
    cores = min(CORES, os.cpu_count() or 1) if Q.nnz >= SHARED else 1
    if cores == 1:
        taken = step(Q.indptr, Q.indices, Q.data, last, y, z, 0, n, steps)
        return z if taken % 2 else y
    # As many arrows and states for each.
    cuts = np.searchsorted(Q.indptr[:-1] + np.arange(n), np.linspace(0, Q.nnz + n, cores + 1)[1:-1])
    parts = list(pairwise([0, *cuts.tolist(), n]))
    with ThreadPoolExecutor(cores - 1) as others:
        for _ in range(steps):
            shares = Q.indptr, Q.indices, Q.data, last, y, z
            started = [others.submit(partial(step, *shares, *part, 1)) for part in parts[1:]]
            changed = step(*shares, *parts[0], 1)
            for each in started:
                changed += each.result()
            y, z = z, y
            if not changed:
                break
    return y


@cache
def _compiled() -> Any:
    """Return `_step` compiled; None where there is no numba."""
    try:
        return compiled(_step)
    except ImportError:
        return None


def _step(indptr, indices, data, last, y, z, first, end, steps):  # type: ignore[no-untyped-def]
    """Step the rows first ... end - 1 from y to z, and back again, until nothing changes; return how many steps did."""
    for k in range(steps):
        changed = 0
        for i in range(first, end):
            s = 0.0
            # Positions without a sign need not be looked at for being counted from the end.
            for p in range(np.uint32(indptr[i]), np.uint32(indptr[i + 1])):
                s += data[p] * y[np.uint32(indices[p])]
            s += last[i]
            changed |= s != y[i]
            z[i] = s
        if not changed:
            return k
        y, z = z, y
    return steps
