"""Leading eigenvalues of one communicating class, with discs that are proven to hold them where that is possible.

The matrix is scaled to `D P D^-1` by `d = sqrt(left / right)` of its Perron vectors, so that its 2-norm is its Perron
root and that of a reversible class is symmetric; then the eigenvalues on the Perron circle, which are known, are
deflated to 0 (Wielandt; Saad, Numerical Methods for Large Eigenvalue Problems (2011), section 4.2). Small classes are
decomposed whole and large ones go to ARPACK. Of a whole decomposition `P V = V L + R` the matrix `V^-1 P V` is known up
to `V^-1 R`, so that Gershgorin's discs hold one eigenvalue each, and as many as there are discs where discs meet (Horn
and Johnson, Matrix Analysis (2013), section 6.1). Rounding is counted in their radii.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.linalg import schur

from flowstat.analyze.discs import covered, discs
from flowstat.analyze.elimination import UNIT
from flowstat.analyze.near_one import distances, enclosed, is_tree
from flowstat.analyze.perron import Part
from flowstat.analyze.scaled import Scaled, scale
from flowstat.analyze.sensitive import SURE, before, conditions, estimated
from flowstat.analyze.solve import Vector
from flowstat.analyze.sought import sought

__all__ = ["Complex", "Leading", "leading", "subspace"]

Complex = npt.NDArray[np.complex128]

WHOLE = 1000
"""Up to how many states a class is decomposed whole; of a larger one only the leading eigenvalues are sought."""

LITTLE = 1e-2
"""Up to this an eigenvalue is listed even so: it says that it can't be told from 0."""


@dataclass(frozen=True)
class Leading:
    """Leading eigenvalues of a class but for those on its Perron circle, m of them, largest first.

    Attributes
    ----------
    apart : (m,) complex
        `1 - eigenvalue`, also where that is too small to be told from the eigenvalue.
    bound : (m,)
        How far each may be off, proven; a trivial one where nothing better is known, `inf` where none is proven.
    apart_bound : (m,)
        How far `apart` may be off, proven: less than `bound` where it could be enclosed relative to its own size.
    residual : (m,)
        Of its vector in the scaled matrix, 2-norm, relative.
    right : (n, m) complex
        The right eigenvectors.
    left : (m, n) complex or None
        Rows of the inverse of the right ones, where they are all known.
    reversible
        The symmetric methods were used.
    others
        How many there are, of which so many lead; exact zeros are not counted.
    nearest
        Those nearest to the Perron root were sought, since those of largest modulus lie too close together.
    estimate : (m,)
        How far each may be off to first order, an estimate from its left and right vector: of a large class that is not
        reversible, where nothing is proven; else `bound`.
    withheld : tuple of complex
        What was found after the last of these that is so sensitive to rounding that it is not known.
    below
        Nearly the modulus that no other eigenvalue exceeds, an estimate, or the root, if that is not known: where some
        were sought in vain. Else None.
    """

    apart: Complex
    bound: Vector
    apart_bound: Vector
    residual: Vector
    right: Complex
    left: Complex | None
    reversible: bool
    others: int = 0
    nearest: bool = False
    estimate: Vector = field(default_factory=lambda: np.zeros(0))
    withheld: tuple[complex, ...] = ()
    below: float | None = None

    @property
    def values(self) -> Complex:
        """The eigenvalues."""
        return np.asarray(1 - self.apart)


def leading(part: Part, number: int, by: Literal["modulus", "real"] = "modulus") -> Leading:
    """Find a class's leading eigenvalues other than those on its Perron circle.

    Parameters
    ----------
    part
        A communicating class.
    number
        How many at least, if so many stand out from the others: of a pair of conjugates both are found. At 0 nothing is
        sought.
    by
        Which lead: the largest in modulus, or in real part. By real part only the Perron root itself is left out.

    Notes
    -----
    Up to `WHOLE` states n^3 operations. Above, some hundreds of products with the matrix where the eigenvalues sought
    are well apart from the others, and a sparse LU where they lie next to 1. That ARPACK misses none is not proven. Of
    classes that are not reversible the left vectors are found, too: an eigenvalue is off by no more than its residual
    by `|left| |right| / |left' right|`, to first order (Saad (2011), section 3.3.2). A small residual alone proves
    nothing: where the vectors are nearly orthogonal, rounding moves the eigenvalue far, and it is withheld with all
    that would come after it.
    """
    period = part.period if by == "modulus" else 1
    scaled = scale(part, period)
    if len(part.moving) - period < period:
        # Turning the phases turns the spectrum: what is left are less than a round, and so zeros.
        none, vectors = np.zeros(0), np.zeros((len(part.moving), 0), complex)
        return Leading(none.astype(complex), none, none, none, vectors, None, scaled.symmetric)
    if number < 1:
        none, vectors = np.zeros(0), np.zeros((len(part.moving), 0), complex)
        others = len(part.moving) - period
        return Leading(none.astype(complex), none, none, none, vectors, None, scaled.symmetric, others)
    if len(part.moving) <= WHOLE:
        return _whole(part, scaled, number, by)
    return _some(part, scaled, number, by)


def subspace(part: Part, found: Leading, number: int) -> Vector:
    """Return real columns, (n, number), that span the space of the eigenvectors of largest real part but the first.

    Parameters
    ----------
    part
        A class.
    found
        Its leading eigenvalues by real part.
    number
        How many of them: pairs of conjugates are to be whole.
    """
    values, right = found.values[: number + 1], found.right
    if not found.reversible and len(right) <= WHOLE and number < len(found.apart):
        # Schur's vectors are independent, also where eigenvectors hardly are.
        scaled = scale(part, 1)
        M = scaled.matrix.toarray() - np.multiply.outer(scaled.right, scaled.left)
        cut = (values[number - 1].real + values[number].real) / 2
        _, Q, inside = schur(M, sort=lambda real, imaginary: real > cut)
        if inside == number:
            return np.asarray(Q[:, :number] / scaled.d[:, None])
    columns = []
    for value, vector in zip(values[:number], right.T, strict=False):
        if value.imag == 0:
            at = int(np.argmax(np.abs(vector)))
            columns.append((vector / (vector[at] / abs(vector[at]))).real)
        elif value.imag > 0:
            columns += [vector.real, vector.imag]
    return np.stack(columns, axis=1)


def _whole(part: Part, scaled: Scaled, number: int, by: str) -> Leading:
    n, period = len(part.moving), scaled.period
    A = scaled.matrix.toarray()
    following = scaled.phase[None, :] == (scaled.phase[:, None] + 1) % period
    outer = np.where(following, np.multiply.outer(scaled.right, scaled.left), 0.0)
    M = A - outer
    if scaled.symmetric:
        values, V = np.linalg.eigh((M + M.T) / 2)
        W = V.T.copy()
    else:
        values, V = np.linalg.eig(M)
        try:
            W = np.linalg.inv(V)
        except np.linalg.LinAlgError:
            W = np.full_like(V, np.nan)
    R = M @ V - V * values
    # What is off with the deflated matrix: rounding, and how far the right Perron vector is from one.
    off = part.matrix() @ part.right - part.root * part.right
    degree = int(np.diff(part.off.indptr).max(initial=0)) + 3
    doubt = 10 * UNIT * (np.abs(A) + outer) + degree * UNIT * np.eye(n)
    if not part.closed:
        doubt += np.where(following, np.multiply.outer(scaled.d * (np.abs(off) + part.doubt), scaled.left), 0.0)
    size = np.abs(V)
    wrong = np.abs(R) + (n + 3) * UNIT * (np.abs(M) @ size + size * np.abs(values)) + doubt @ size
    bound = np.minimum(discs(np.asarray(values, complex), V, W, wrong), part.root + np.abs(values) + 10 * UNIT)
    residual = np.linalg.norm(R, axis=0) / np.linalg.norm(V, axis=0)
    # The zeros that deflation made are those nearest to 0, as are those that the arrows tell of.
    others = covered(part) - period
    order = np.argsort(-np.abs(values), kind="stable")[:others]
    values = np.asarray(values, complex)
    known = bool(np.isfinite(W).all())
    unsure, rough = np.zeros(n, bool), np.full(n, np.inf)
    if not scaled.symmetric and (bound[order] > np.abs(values[order])).any():
        # No disc tells: those are withheld that may be far from what they seem, to first order, unless that is little.
        left_values, across = np.linalg.eig(M.T)
        noise = np.linalg.norm(R, axis=0) / np.linalg.norm(V, axis=0) + degree * UNIT * (part.root + np.abs(values))
        condition, differ = conditions(values, np.asarray(V, complex), left_values, across)
        rough = np.maximum(condition * noise, differ)
        unsure = (bound > np.abs(values)) & (rough > SURE) & (np.abs(values) > LITTLE)
    if len(order) < n:
        # Whose conjugate is an exact 0 is no pair.
        alone = [k for k in order if values[k].imag and values[k].conjugate() not in values[order]]
        bound[alone] += np.abs(values[alone].imag)
        values[alone] = values[alone].real
    if by == "real":
        order = order[np.argsort(-values[order].real, kind="stable")]
    some = _first(values[order], number)
    kept = order[:some]
    withheld = tuple(complex(v) for v in values[kept[unsure[kept]]])
    if withheld and by == "real":
        kept = kept[: before(values[kept], int(np.argmax(unsure[kept])))]
    kept = kept[~unsure[kept]]
    right = np.asarray(V[:, kept] / scaled.d[:, None], complex)
    left = np.asarray(W[kept] * scaled.d, complex) if known else None
    apart = np.asarray(1 - values[kept], complex)
    if left is not None:
        apart = distances(part, apart, right, left)
    off_by = bound[kept] + np.abs((1 - apart) - values[kept])
    apart_by = off_by.copy()
    if part.closed and is_tree(part) and len(order):
        second, *lower = order[np.argsort(-values[order].real, kind="stable")]
        third = min((1 - values[k].real - bound[k] for k in lower), default=2.0)
        gap, enclosure = enclosed(part, V[:, second].real / scaled.d, third)
        at = np.flatnonzero(kept == second)
        if enclosure < off_by[at].min(initial=np.inf):
            apart[at], apart_by[at] = gap, enclosure
    return Leading(
        apart,
        off_by,
        apart_by,
        residual[kept],
        right,
        left,
        scaled.symmetric,
        others,
        False,
        np.minimum(off_by, rough[kept]),
        withheld,
    )


def _first(values: Complex, number: int) -> int:
    """Return how many values to take for so many, no pair of conjugates cut in two."""
    number = min(number, len(values))
    if number and number < len(values):
        last, then = values[number - 1], values[number]
        if last.imag and then == last.conjugate() and not (number > 1 and values[number - 2] == last.conjugate()):
            return number + 1
    return number


def _some(part: Part, scaled: Scaled, number: int, by: str) -> Leading:
    found = sought(part, scaled, min(number + 1, len(part.moving) - scaled.period - 2), by)
    values, V = found.values, found.vectors
    order = np.argsort(-np.abs(values) if by == "modulus" else -values.real, kind="stable")
    order = order[: _first(values[order], number)]
    values, V = values[order], V[:, order]
    R: Complex = np.asarray(scaled.matrix @ V, complex) - V * values
    residual = np.linalg.norm(R, axis=0) / np.linalg.norm(V, axis=0)
    right = np.asarray(V / scaled.d[:, None], complex)
    apart = np.asarray(1 - values, complex)
    bound = np.full(len(values), np.inf)
    degree = int(np.diff(scaled.matrix.indptr).max(initial=0)) + 8
    withheld: tuple[complex, ...] = ()
    estimate: Vector = bound
    if scaled.symmetric:
        # Of a symmetric matrix an eigenvalue is as near as the residual is large.
        apart = distances(part, apart, right, np.asarray((V * scaled.d[:, None]).T, complex))
        skew = abs(scaled.matrix - scaled.matrix.T)
        size: Vector = np.abs(V)
        reach: Vector = np.asarray(abs(scaled.matrix) @ size, np.float64) + size
        rounded = degree * UNIT * np.sqrt((reach**2).sum(axis=0))
        bound = residual + 1.01 * (rounded + float(skew.sum(axis=1).max()) + np.abs((1 - apart) - values))
        estimate = bound.copy()
    else:
        apart, estimate, unknown = estimated(part, scaled, values, V, found, residual)
        unsure = np.flatnonzero(unknown)
        if len(unsure):
            sure = before(values, int(unsure[0]))
            withheld = tuple(complex(v) for v in values[sure:])
            apart, bound, residual, estimate = apart[:sure], bound[:sure], residual[:sure], estimate[:sure]
            right = right[:, :sure]
    return Leading(
        apart,
        bound,
        bound,
        residual,
        right,
        None,
        scaled.symmetric,
        len(part.moving) - scaled.period,
        found.nearest,
        estimate,
        withheld,
        found.below,
    )
