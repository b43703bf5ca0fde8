"""How fast a closed class forgets at least, and at most: bounds for its mixing time where powers are out of reach."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import Literal

import numpy as np
from scipy import sparse

from flowstat.analyze.all_pairs import all_passages
from flowstat.analyze.eigen import Leading, leading
from flowstat.analyze.elimination import UNIT
from flowstat.analyze.perron import Part
from flowstat.errors import AnalysisError

__all__ = ["Gaps", "gaps"]

ALL = 300
"""Up to how many states all eigenvalues are looked at, and Kemeny's constant."""

DECOMPOSED = 1500
"""Up to how many states the norm of a class that is not reversible is computed."""

SKEW = 2e-12
"""More than how far from symmetric the scaled matrix of a class that is decomposed as reversible may be."""

BALANCE = 1e-9
"""How far apart, relatively, the flows of an arrow and its reverse may be in a class that counts as reversible."""


@dataclass(frozen=True)
class Gaps:
    """Bounds of a speed of mixing.

    `|P^t - pi| <= (1 - least)^t` in the norm of L2(pi), and some eigenvalue has a modulus of at least `1 - most`.
    `method` says where `least` is from; see `flowstat.analyze.mixing`.
    """

    least: float
    most: float
    method: Literal["gap", "gap, estimated", "norm", "followed"]


def gaps(part: Part, unit: float) -> Gaps:
    """Return what is known of the speed of mixing of an aperiodic closed class.

    Notes
    -----
    Of a reversible class, the distance of its eigenvalues from 1 and -1; that from 1 also by Kemeny's constant K, which
    is the sum of all `1 / (1 - lambda)` (Levin, Peres, Wilmer, Markov Chains and Mixing Times (2017), section 12.6):
    `1/K` and `(n - 1)/K` enclose it, however small it is. Of others the norm of the class, scaled (Fill, Annals of
    Applied Probability 1 (1991)). Cost: n^3 up to 300 states, and for classes that are not reversible up to 1,500.
    """
    n = len(part.moving)
    balanced = _balanced(part)
    found = None
    if balanced or n <= ALL:
        # Of a large class that is not reversible nothing would be proven.
        with suppress(AnalysisError):
            found = leading(part, n if n <= ALL else 2)
    if found is None or not len(found.apart):
        return Gaps(_norm_gap(part), inf, "norm") if n <= DECOMPOSED else Gaps(0.0, inf, "followed")
    # 1 - |lambda| is known as well as 1 - lambda where lambda is positive.
    real = (found.apart.imag == 0) & (found.apart.real < 1)
    gap = np.where(real, found.apart.real, 1 - np.abs(found.values))
    off = np.where(real, found.apart_bound + UNIT * found.apart.real, found.bound + 2 * UNIT)
    known = np.isfinite(off)
    most = float((gap + off)[known].min(initial=inf))
    if found.reversible and known.all() and balanced:
        # The norm of a matrix that is not quite symmetric is no more than that above its eigenvalues.
        least = float((gap - off).min()) - SKEW
        if found.nearest:
            # Those near -1 were not looked for: no eigenvalue is further down than where rows that only stay would be.
            least = min(least, 2 * float((1 - part.moving).min()))
        if n <= ALL:
            least, most = _by_kemeny(part, found, unit, least, most)
        return Gaps(least, most, "gap" if n <= ALL else "gap, estimated")
    if n <= DECOMPOSED:
        return Gaps(_norm_gap(part), most, "norm")
    return Gaps(0.0, most, "followed")


def _by_kemeny(part: Part, found: Leading, unit: float, least: float, most: float) -> tuple[float, float]:
    n = len(part.moving)
    M = all_passages(part.off, unit)
    home = int(np.argmax(part.left))
    to_others = np.delete(M.values[home] * part.left, home).sum()
    off = np.delete(M.bound[home] * part.left, home).sum() / to_others + part.left_doubt + n * UNIT + 10 * n * BALANCE
    if off < 0.5:
        below = (found.values.real < 0) | (found.bound > np.abs(found.values))
        other_end = float((1 + found.values.real - found.bound)[below].min(initial=inf))
        least = max(least, min(other_end, (1 - 2 * off) / to_others))
        most = min(most, (1 + 2 * off) * (n - 1) / to_others)
    return least, most


def _balanced(part: Part) -> bool:
    """Whether every arrow of a class is taken as often as its reverse, but for rounding."""
    flow = sparse.csr_array(sparse.diags_array(part.left) @ part.off)
    net, both = sparse.csr_array(abs(flow - flow.T)), sparse.csr_array(flow + flow.T)
    return not (net - BALANCE * both > 0).nnz


def _norm_gap(part: Part) -> float:
    """Return 1 minus the norm of the scaled matrix without its Perron part, less what rounding may do to that."""
    root = np.sqrt(part.left)
    if not part.left.min() > 1e-280:
        return 0.0
    n = len(root)
    scaled = root[:, None] * part.matrix().toarray() / root - np.multiply.outer(root, root)
    norm = float(np.linalg.norm(scaled, 2))
    return 1 - norm - 20 * n * UNIT - 3 * part.left_doubt
