"""Numbers as pairs of floats, of some 106 bits together: for compiled code, which puts these functions in place.

Source: Dekker, Numerische Mathematik 18 (1971). A sum is off by no more than some 2^-104 of the sizes of its terms, a
product or quotient by as much of itself (Joldes, Muller, Popescu, ACM Transactions on Mathematical Software 44 (2017)).
Factors above 1e300 overflow.
"""

from __future__ import annotations

import platform
from functools import cache
from typing import Any

__all__ = ["PAIR", "arithmetic"]

PAIR = 2.0**-106
"""The unit of a pair of floats."""

SPLIT = 134217729.0
"""2^27 + 1: splits a float into two of half its bits."""


@cache
def arithmetic() -> tuple[Any, Any, Any]:
    """Return sum, product and quotient for code that numba compiles: they take and give high and low parts."""
    import numba

    if _fuses():
        globals().update(_fused=_fuse(), _times=_fused_times)
    for name in ("_plus", "_times", "_over"):
        globals()[name] = numba.njit(globals()[name], inline="always")
    return _plus, _times, _over


def _fuses() -> bool:
    """Return whether the processor multiplies and adds with one rounding; else that is a slow call."""
    from llvmlite import binding  # type: ignore[import-untyped]

    return platform.machine().lower() in ("arm64", "aarch64") or bool(binding.get_host_cpu_features().get("fma"))


def _fuse() -> Any:
    from numba.core import types
    from numba.extending import intrinsic

    @intrinsic
    def fused(context, a, b, c):  # type: ignore[no-untyped-def]
        return types.float64(a, b, c), lambda context, builder, signature, numbers: builder.fma(*numbers)

    return fused


_fused: Any = None  # put in place when it is there


def _plus(ah, al, bh, bl):  # type: ignore[no-untyped-def]
    """Return a + b."""
    s = ah + bh
    t = s - ah
    e = (ah - (s - t)) + (bh - t) + (al + bl)
    h = s + e
    return h, e - (h - s)


def _times(ah, al, bh, bl):  # type: ignore[no-untyped-def]
    """Return a b."""
    p = ah * bh
    t = SPLIT * ah
    ahh = t - (t - ah)
    ahl = ah - ahh
    t = SPLIT * bh
    bhh = t - (t - bh)
    bhl = bh - bhh
    e = ((ahh * bhh - p) + ahh * bhl + ahl * bhh) + ahl * bhl
    e += ah * bl + al * bh
    h = p + e
    return h, e - (h - p)


def _fused_times(ah, al, bh, bl):  # type: ignore[no-untyped-def]
    """Return a b: the same, of fewer operations."""
    p = ah * bh
    e = _fused(ah, bh, -p) + (ah * bl + al * bh)
    h = p + e
    return h, e - (h - p)


def _over(ah, al, bh, bl):  # type: ignore[no-untyped-def]
    """Return a / b."""
    q = ah / bh
    ph, pl = _times(bh, bl, q, 0.0)
    rh, rl = _plus(ah, al, -ph, -pl)
    f = (rh + rl) / bh
    h = q + f
    return h, f - (h - q)
