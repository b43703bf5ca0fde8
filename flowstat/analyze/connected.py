"""Whether a large chain is one class, without finding all of its classes.

It is, if all states can be come to from the first one, and it from all of them. The first is a search; the second goes
over the states again and again, up and down, and marks those that lead to a marked one, and needs no arrows turned
round. Cost: a few looks at each arrow; where going over takes too often, nothing is said.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from scipy import sparse

from flowstat.analyze.compiled import compiled

__all__ = ["is_one_class"]

LARGE = 100_000
"""From how many states on this is worth its while."""

TURNS = 16
"""How often it is gone over all states, at most."""


def is_one_class(P: sparse.csr_array) -> bool:
    """Return whether a large chain is found to be one strongly connected class, (n, n); False says nothing."""
    if P.shape[0] < LARGE or (np.diff(P.indptr) == 0).any() or (kernel := _kernel()) is None:
        return False
    return bool(kernel(P.indptr, P.indices, TURNS))


@cache
def _kernel() -> Any:
    try:
        import numba  # noqa: F401
    except ImportError:
        return None
    return compiled(_one)


def _one(indptr, indices, turns):  # type: ignore[no-untyped-def]
    n = len(indptr) - 1
    seen = np.zeros(n, np.uint8)
    stack = np.empty(n, np.int32)
    stack[0], top, found = 0, 1, 1
    seen[0] = 1
    while top:
        top -= 1
        i = stack[top]
        for p in range(indptr[i], indptr[i + 1]):
            j = np.uint32(indices[p])
            if not seen[j]:
                seen[j] = 1
                stack[top] = j
                top += 1
                found += 1
    if found < n:
        return False
    seen[:] = 0
    seen[0] = 1
    found = 1
    for turn in range(turns):
        before = found
        for k in range(n):
            i = k if turn % 2 else n - 1 - k
            if not seen[i]:
                for p in range(indptr[i], indptr[i + 1]):
                    if seen[np.uint32(indices[p])]:
                        seen[i] = 1
                        found += 1
                        break
        if found in (n, before):
            break
    return found == n
