"""How uncertain the next event is, in bits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flowstat.analyze.elimination import UNIT
from flowstat.analyze.solve import Solved, Vector
from flowstat.estimate.chain import Chain

__all__ = ["law_entropy", "step_entropy"]


def step_entropy(chain: Chain) -> Solved:
    """Return the entropy of what follows an event at each node, in bits, (n,).

    What follows is one of its arrows, or its stop. Each entry is right relative to itself: where one share is above
    1/2, what is left of 1 is the sum of the others. Linear in states and arrows.

    Examples
    --------
    >>> coin = Chain.from_matrix([[0.5, 0.25], [0, 1]], stop=[0.25, 0])
    >>> step_entropy(coin).values
    array([1.5, 0. ])
    """
    n = len(chain.names)
    rows, _, shares = chain.arrows()
    stops = np.flatnonzero(chain.stop)
    rows, shares = np.concatenate([rows, stops]), np.concatenate([shares, chain.stop[stops]])
    values = _terms(rows, shares, n)
    degree = np.bincount(rows, minlength=n)
    # To stay is as likely as what leaves leaves it: the stored share is known as well as the row sums to 1.
    slack = np.abs(np.bincount(rows, weights=shares, minlength=n) - 1) + (degree + 3) * UNIT
    stay = chain.P.diagonal()
    known = np.where(stay > 0, np.log2(np.maximum(stay, UNIT)), 0.0)
    doubt = np.where(stay > 0, slack * (2 - known), 0.0)
    return Solved(values, (3 * degree + 16) * UNIT * values + doubt)


def law_entropy(law: Vector) -> Solved:
    """Return the entropy of a law, in bits: one number."""
    positive = law[law > 0]
    values = _terms(np.zeros(len(positive), np.int64), positive, 1).sum()
    return Solved(values, (3 * len(positive) + 16) * UNIT * values)


def _terms(rows: npt.NDArray[np.int64], shares: Vector, n: int) -> Vector:
    large = shares > 0.5
    others = np.bincount(rows, weights=np.where(large, 0.0, shares), minlength=n)[rows[large]]
    terms = np.empty_like(shares)
    terms[large] = -(1 - others) * np.log1p(-others)
    terms[~large] = -shares[~large] * np.log(shares[~large])
    result: Vector = np.bincount(rows, weights=terms, minlength=n) / np.log(2)
    return result + 0.0
