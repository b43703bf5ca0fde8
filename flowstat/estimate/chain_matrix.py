"""What a chain is made of, as callers have it: a matrix of any kind, names, and chances to stop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from flowstat.errors import ChainError
from flowstat.read.words import shown

__all__ = ["clean", "labels_of", "square", "stops_of"]


def square(P: Any) -> sparse.csr_array:
    """Return a square matrix of real numbers as one of our own: a copy, its duplicates added up.

    What the caller does to the matrix later changes no chain, nor does the chain change the caller's matrix.

    Raises
    ------
    ChainError
        If it is none.
    """
    try:
        given: Any = P if sparse.issparse(P) else np.asarray(P)
        if np.iscomplexobj(given):
            raise TypeError("its entries are complex")
        matrix = sparse.csr_array(given, dtype=np.float64, copy=True)
    except (TypeError, ValueError) as error:
        raise ChainError(f"P is not a matrix of numbers: {error}") from None
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ChainError(f"P has the shape {matrix.shape}: a square matrix is needed")
    matrix.sum_duplicates()
    return clean(matrix)


def clean(matrix: sparse.csr_array) -> sparse.csr_array:
    """Return the matrix itself with sorted columns, without stored zeros, in 32 bits a place if that does."""
    matrix.eliminate_zeros()
    matrix.sort_indices()
    if max(matrix.shape[0], matrix.nnz) <= np.iinfo(np.int32).max:
        matrix.indices, matrix.indptr = matrix.indices.astype(np.int32), matrix.indptr.astype(np.int32)
    return matrix


def labels_of(names: Sequence[str] | None, n: int) -> tuple[str, ...]:
    """Return the names of n states; their numbers if there are none.

    Raises
    ------
    ChainError
        If one is no text.
    """
    if names is None:
        return tuple(map(str, range(n)))
    try:
        labels = tuple(names)
    except TypeError:
        raise ChainError(f"names are a list of texts, not {shown(repr(names))}") from None
    for label in labels:
        if not isinstance(label, str):
            raise ChainError(f"a node's name is a text, not {shown(repr(label))}: write str(...) of each")
    return tuple(map(str, labels))


def stops_of(stop: npt.ArrayLike | None, n: int) -> npt.NDArray[np.float64]:
    """Return the chances to stop, a copy; zeros if there are none.

    Raises
    ------
    ChainError
        If they are no real numbers.
    """
    if stop is None:
        return np.zeros(n)
    try:
        if np.iscomplexobj(stop):
            raise TypeError("they are complex")
        return np.array(stop, np.float64)
    except (TypeError, ValueError) as error:
        raise ChainError(f"stop is not a list of numbers: {error}") from None
