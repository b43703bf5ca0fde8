"""One eigenvalue of a chain, with what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, log1p, pi
from typing import Literal

from flowstat.analyze.elimination import UNIT
from flowstat.analyze.sensitive import NOTHING

__all__ = ["Eigenvalue", "eigenvalue"]


@dataclass(frozen=True)
class Eigenvalue:
    """An eigenvalue of P, or a pair of conjugates (`imaginary` > 0 stands for both).

    `decay` is 1 - modulus, also where that is too small to be told from the modulus; `relaxation` the steps in which
    what it stands for shrinks to 1/e, `-1 / log modulus`, and `period` the steps of a turn, `2 pi / |arg|`: None for a
    positive one. `turns` is how often it turns before it has shrunk so. `error_bound` is how far the eigenvalue may be
    off, proven (`inf`: nothing is proven), and `residual` that of its vector. Where nothing good is proven,
    `error_estimate` is how far it may be off to first order, by its residual and its left and right vectors: an
    estimate.
    """

    real: float
    imaginary: float
    modulus: float
    decay: float
    relaxation: float
    period: float | None
    turns: float | None
    kind: Literal["closed", "transient"]
    of: str
    error_bound: float
    decay_bound: float
    relaxation_bound: float
    residual: float
    error_estimate: float | None = None

    @property
    def may_be_0(self) -> bool:
        """Whether it can't be told from 0, as far as is proven, and as is estimated."""
        rough = self.error_estimate is None or NOTHING * self.error_estimate >= self.modulus
        return self.modulus <= self.error_bound < inf and rough


def eigenvalue(
    value: complex, decay: float, angle: float, closed: bool, name: str, bound: float, apart: float, residual: float
) -> Eigenvalue:
    """Return an eigenvalue with what follows from it; `apart` is the bound of its decay."""
    modulus = 1 - decay
    turning = abs(angle) > 0 and modulus > (bound if bound < inf else residual)
    relaxation = _relaxation(decay)
    # The relaxation time grows as the decay shrinks.
    doubt = 0.0
    if apart and relaxation < inf:
        doubt = max(_relaxation(decay - apart) - relaxation, relaxation - _relaxation(decay + apart))
        doubt = 1.01 * doubt + 4 * UNIT * relaxation
    return Eigenvalue(
        value.real + 0.0,
        abs(value.imag),
        modulus,
        decay,
        relaxation,
        2 * pi / abs(angle) if turning else None,
        abs(angle) * relaxation / (2 * pi) if turning else None,
        "closed" if closed else "transient",
        name,
        bound,
        apart,
        doubt,
        residual,
    )


def _relaxation(decay: float) -> float:
    """Return the steps in which what decays by so much each step shrinks to 1/e."""
    if decay <= 0:
        return inf
    return -1 / log1p(-decay) if decay < 1 else 0.0
