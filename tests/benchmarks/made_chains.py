"""Chains made for the benchmarks: as a program's, one giant class that mixes well, one that is slow and narrow."""

from pathlib import Path

import numpy as np
from scipy import sparse

LARGEST = 60
"""States of the largest class of a program-like chain."""


def program_like(n, shuffled=False, seed=0):
    """Return P and the chances to stop: classes of up to sixty states, each left at one of them only.

    Four arrows a state: one round its class and three within it; where a class is left, two of them lead on, to later
    classes, or in one case of ten to one of the last states, where runs end.
    """
    rng = np.random.default_rng(seed)
    last = n - n // 50
    sizes = rng.integers(1, LARGEST + 1, 2 * n // LARGEST + 100)
    ends = np.cumsum(sizes)
    ends = np.append(ends[ends < last], last)
    begins = np.concatenate([[0], ends[:-1]])
    part = np.repeat(np.arange(len(ends)), ends - begins)
    low, high = begins[part], ends[part]
    i = np.arange(last)
    columns = low[:, None] + (rng.random((last, 4)) * (high - low)[:, None]).astype(np.int64)
    columns[:, 0] = np.where(i + 1 < high, i + 1, low)
    ways = ends[:, None] + (rng.random((len(ends), 2)) * 2000).astype(np.int64)
    away = (rng.random(ways.shape) < 0.1) | (ways >= last)
    ways[away] = rng.integers(last, n, int(away.sum()))
    columns[ends - 1, 2:] = ways
    weights = rng.dirichlet(np.ones(4), last)
    weights[ends - 1] = rng.dirichlet([1, 1, 4, 4], len(ends))
    P = sparse.csr_array((weights.ravel(), (np.repeat(i, 4), columns.ravel())), shape=(n, n))
    if shuffled:
        order = np.concatenate([[0], 1 + rng.permutation(n - 1)])
        P = sparse.csr_array(P[order][:, order])
    return complete(P)


def giant(n, seed=0):
    """Return one class of n states, of four arrows to anywhere each; half of the runs end at each thousandth."""
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(4), n)
    weights[::1000] /= 2
    columns = rng.integers(0, n, (n, 4))
    columns[:, 0] = (np.arange(n) + 1) % n
    return complete(sparse.csr_array((weights.ravel(), (np.repeat(np.arange(n), 4), columns.ravel())), shape=(n, n)))


def band(n, seed=0):
    """Return one slow class: from each state up to two on or back, about evenly; runs end at both borders only."""
    rng = np.random.default_rng(seed)
    i = np.arange(n)
    weights = rng.dirichlet(np.full(4, 20.0), n)
    columns = i[:, None] + np.array([-2, -1, 1, 2])
    inside = (columns >= 0) & (columns < n)
    rows = np.repeat(i, 4).reshape(n, 4)
    P = sparse.csr_array((weights[inside], (rows[inside], columns[inside])), shape=(n, n))
    return complete(P)


def complete(P):
    """Return P without duplicates, in order, and what is left of each row: the chance to stop there."""
    P.sum_duplicates()
    P.sort_indices()
    stop = 1 - np.asarray(P.sum(axis=1)).ravel()
    stop[np.abs(stop) < 1e-12] = 0.0
    return P, stop


def save(path: Path, P, stop):
    np.savez(path, data=P.data, indices=P.indices, indptr=P.indptr, stop=stop)


def load(path):
    """Return P and the chances to stop from a file of `save`, and of which of five outcomes each node is."""
    with np.load(path) as file:
        stop = file["stop"]
        P = sparse.csr_array((file["data"], file["indices"], file["indptr"]), shape=(len(stop), len(stop)))
        return P, stop, np.arange(len(stop)) % 5
