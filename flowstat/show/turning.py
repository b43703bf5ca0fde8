"""Which cycle an eigenvalue comes from: its share in the turning of the eigenvector along the arrows."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from flowstat.analyze.cycles import cycles
from flowstat.analyze.perron import Part
from flowstat.analyze.solve import Vector
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import Chain

__all__ = ["Turning", "turning"]

LARGEST = 2000
"""Up to how many states a class's cycles are looked for."""

LOOKED_AT = 60
"""How many of them, those that are gone round most often in the long run."""

AGREED = 1e-6
"""How far the vector that was found may be from an eigenvector, relatively."""

CLEAR = 0.1
"""Less than this share of an eigenvalue is not said to carry it."""


@dataclass(frozen=True)
class Turning:
    """A cycle with its share in an eigenvalue's imaginary part (its real part, if that is negative)."""

    nodes: tuple[str, ...]
    share: float


def turning(part: Part, names: tuple[str, ...], values: list[complex]) -> list[Turning | None]:
    """Return the cycle that carries each of some eigenvalues of a class, complex or negative; None if none does.

    Parameters
    ----------
    part
        The class, k states with their root and Perron vectors.
    names
        Of its states.
    values
        Eigenvalues of its block of P.

    Notes
    -----
    Seen in the long run, with its Perron vectors l and r and root rho, the class is the stationary chain
    `p_ij r_j / (rho r_i)` with the law `pi_i = l_i r_i` (Doob's transform; Seneta (2006), section 3.2), and its
    stationary flow is the sum of its cycles, each as often as it is closed: w_c (see `circulation`). With `f = u / r`,
    u the eigenvector of lambda,

        lambda / rho = sum over c of w_c sum over (i, j) on c of conj(f_i) f_j / sum over i of pi_i |f_i|^2.

    So each cycle has its share in lambda, and the shares sum to 1. Cycles of one or two nodes have none in an imaginary
    part. The cycle with the largest share, among the 60 that are closed most often (the most probable ones in classes
    of many joined nodes), carries the eigenvalue, if it has a tenth at least. The vector is found by inverse iteration:
    an LU decomposition for each eigenvalue. Of classes of more than 2,000 states none is looked for.

    The shares are as well known as floating point gives them: there is no proven bound.
    """
    k = len(part.states)
    if not values or k > LARGEST or k < 2:
        return [None] * len(values)
    block = part.matrix()
    weight = part.left * part.right
    if not (np.isfinite(weight).all() and part.right.min() > 0 and part.root > 0):
        return [None] * len(values)
    weight = weight / weight.sum()
    chain = _seen_long(block, part, names)
    if chain is None:
        return [None] * len(values)
    try:
        found = cycles(chain, LOOKED_AT, by="flux").cycles
    except AnalysisError:
        try:
            found = cycles(chain, LOOKED_AT).cycles
        except AnalysisError:
            return [None] * len(values)
    ways = [(c.nodes, c.rate, np.array([chain.index[name] for name in c.nodes])) for c in found if c.rate]
    return [_carrier(block, part.right, weight, value, part.root, ways) for value in values]


def _seen_long(block: sparse.csr_array, part: Part, names: tuple[str, ...]) -> Chain | None:
    """Return the class as it is seen in the long run."""
    rows = np.repeat(np.arange(len(names)), np.diff(block.indptr))
    share = block.data * part.right[block.indices] / (part.root * part.right[rows])
    sums = np.bincount(rows, share, len(names))
    if not np.isfinite(share).all() or np.abs(sums - 1).max() > 1e-6:
        return None
    P = sparse.csr_array((share / sums[rows], block.indices, block.indptr), shape=block.shape)
    return Chain.from_matrix(P, names, names[0])


def _carrier(
    block: sparse.csr_array,
    right: Vector,
    weight: Vector,
    value: complex,
    root: float,
    ways: list[tuple[tuple[str, ...], float, np.ndarray]],
) -> Turning | None:
    u = _vector(block, value)
    if u is None:
        return None
    f = u / right
    norm = float(weight @ np.abs(f) ** 2)
    best: Turning | None = None
    for nodes, rate, at in ways:
        part = complex(np.sum(np.conj(f[at]) * f[np.roll(at, -1)])) * rate * root / norm
        share = part.imag / value.imag if value.imag else part.real / value.real
        if share >= CLEAR and (best is None or share > best.share * (1 + 1e-9)):
            best = Turning(nodes, share)
    return best


def _vector(block: sparse.csr_array, value: complex) -> np.ndarray | None:
    """Return the right eigenvector of a value, by inverse iteration next to it."""
    k = block.shape[0]
    eye = sparse.eye_array(k, dtype=complex)
    shift = value + 1e-10 * (1 + 1j) * max(abs(value), 1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            lu = splu(sparse.csc_matrix(block - shift * eye))
        except RuntimeError:
            return None
    # Any start that is not orthogonal to it: the same one each time.
    u = np.exp(1j * np.arange(k) * 2.399963)
    for _ in range(3):
        u = lu.solve(u)
        size = np.linalg.norm(u)
        if not np.isfinite(size) or size == 0:
            return None
        u = u / size
    if np.linalg.norm(block @ u - value * u) > AGREED * max(abs(value), 1e-3):
        return None
    found: np.ndarray = u
    return found
