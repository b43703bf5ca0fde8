"""The gain of a loop: by what factor the messages in it grow from one to the next, in the long run."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse

from flowstat.analyze.elimination import UNIT
from flowstat.analyze.solve import Solved, Vector
from flowstat.estimate.chain import Chain
from flowstat.read.patterns import parse_pattern

__all__ = ["gain", "mean_matrix"]

WHOLE = 400
"""Up to how many nodes the eigenvectors of a loop are worked out whole."""

ROUNDS = 500
"""How often a larger loop is multiplied with a vector."""


def mean_matrix(chain: Chain) -> sparse.csr_array:
    """Return how many messages an event at i sends to j on average, (n, n); the shares where no event sends several.

    A lineage goes to j with `sum_s p(s) m_j(s) / |s|`, of which `estimate` made the shares; here the divisor is left
    out. The prior's patterns are single messages, for which it is 1.

    Examples
    --------
    >>> mean_matrix(Chain.from_matrix([[0, 1], [0.5, 0]], stop=[0, 0.5])).toarray()
    array([[0. , 1. ],
           [0.5, 0. ]])
    """
    if not chain.fans_out or chain.counts is None:
        return chain.P
    counts, index = chain.counts, chain.index
    known = set(chain.graph.nodes) if chain.graph is not None else set()
    rows, columns, more = [], [], []
    for (node, sent), n in counts.table.items():
        targets = parse_pattern(sent)
        size = sum(times for _, times in targets)
        if size < 2:
            continue
        weight = counts.events[node] + (chain.prior if node in known else 0.0)
        for target, times in targets:
            rows.append(index[node])
            columns.append(index[target])
            more.append(n * times * (size - 1) / size / weight)
    added = sparse.csr_array((more, (rows, columns)), shape=chain.P.shape)
    mean = sparse.csr_array(chain.P + added)
    mean.sort_indices()
    return mean


def gain(M: sparse.csr_array) -> Solved:
    """Return the spectral radius of a strongly connected nonnegative matrix, with a bound that is proven.

    Whatever positive x is taken, the radius lies between the least and the largest of `(M x)_i / x_i` (Collatz and
    Wielandt; Horn and Johnson, Matrix Analysis (2nd ed.), theorem 8.1.26). Near the eigenvector they are close. Cost:
    all eigenvectors up to `WHOLE` nodes; above, products with a vector until they settle.

    Examples
    --------
    >>> found = gain(sparse.csr_array([[0, 0.5], [0.5, 0]]))
    >>> found.values.item(), found.bound.item() < 1e-15
    (0.5, True)
    """
    n = M.shape[0]
    if n == 1:
        return Solved(np.asarray(M.sum()), np.zeros(()))
    best: npt.NDArray[np.float64] = np.ones(n)
    found = _enclosed(M, best)
    if n <= WHOLE:
        values, vectors = np.linalg.eig(M.toarray())
        first = np.abs(vectors[:, np.argmax(values.real)].real)
        if (first > 0).all():
            best = first
            found = min(found, _enclosed(M, best), key=_width)
    for _ in range(ROUNDS if n > WHOLE else 20):
        if _width(found) <= 100 * UNIT * found[1]:
            break
        # With a part of x itself added, no period keeps it turning.
        onward = np.asarray(M @ best)
        best = onward / onward.max() + best / (4 * best.max())
        found = min(found, _enclosed(M, best), key=_width)
    low, high = found
    # Sums of as many terms as a row has, and a quotient.
    most = float(np.diff(M.indptr).max()) + 4
    middle = (low + high) / 2
    return Solved(np.asarray(middle), np.asarray(1.01 * ((high - low) / 2 + most * UNIT * high)))


def _enclosed(M: sparse.csr_array, x: Vector) -> tuple[float, float]:
    with np.errstate(over="ignore"):
        quotient = np.asarray(M @ x) / x
    return float(quotient.min()), float(quotient.max())


def _width(found: tuple[float, float]) -> float:
    return found[1] - found[0]
