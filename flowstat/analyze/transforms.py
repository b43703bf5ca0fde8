"""Chains made from a chain: of the runs that end in one way, of several steps at once, of pairs of nodes."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse import csgraph

from flowstat.analyze.absorption import trap_name
from flowstat.analyze.derived import MOST, Derived, law_of, whole
from flowstat.analyze.elimination import SMALLEST, UNIT
from flowstat.analyze.partition import ranges
from flowstat.analyze.solve import Solver, Vector
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import ROW_SLACK, Chain, Start, start_law
from flowstat.estimate.second_order import pair_name
from flowstat.read.words import shown

__all__ = ["condition", "pairs", "power"]

Flags = npt.NDArray[np.bool_]

TINY = float(np.finfo(np.float64).tiny)


def condition(chain: Chain, outcome: str | Iterable[str], start: Start = None) -> Derived:
    """Return the chain of the runs that end in an outcome (Doob's h-transform).

    Parameters
    ----------
    chain
        A chain.
    outcome
        Where the runs end: a node that they stop at, or a trap, by the name that `absorption` gives it or any of its
        nodes. Of several, the runs end in any of them.
    start
        A node or a law over nodes; the chain's start law if not given.

    Returns
    -------
    Derived
        Over the nodes from which the outcome is possible; all its runs end there. It starts where those runs
        start; `chance` is their share of all runs.

    Raises
    ------
    ChainError
        If the start is no law over the nodes.
    AnalysisError
        If no run can end there, or if it is so improbable from some node that the chances can't be told from 0.

    Notes
    -----
    With h the chance of the outcome from each node, `p_ij h_j / h_i`, and for the stop `stop_i / h_i`. Source: Kemeny
    and Snell, Finite Markov Chains (1960), section 3.4; Doob, Classical Potential Theory (1984), section 2.VI.13.
    One solution, see `flowstat.analyze.solve`, and then linear in the arrows.

    Examples
    --------
    >>> ruin = Chain.from_matrix([[0, .5, 0], [.5, 0, .5], [0, .5, 0]], ["1", "2", "3"], "1", stop=[.5, 0, .5])
    >>> lucky = condition(ruin, "3")
    >>> lucky.P.toarray().round(12).tolist(), round(lucky.chance, 12)
    ([[0.0, 1.0, 0.0], [0.25, 0.0, 0.75], [0.0, 0.333333333333, 0.0]], 0.25)
    """
    law = start_law(chain, start)
    solver = Solver(chain.P, chain.stop)
    stops, trapped = _ends(chain, solver, outcome)
    rows, columns, values = chain.arrows()
    entering = np.where(trapped[columns] & ~trapped[rows], values, 0.0)
    gain: Vector = np.where(stops, chain.stop, 0.0) + np.bincount(rows, weights=entering, minlength=solver.n)
    solved = solver.backward(gain, gain_bound=solver.unit * gain)
    h, off = np.where(trapped, 1.0, solved.values), np.where(trapped, 0.0, solved.bound)
    keep = np.flatnonzero(_able(chain.P, stops | trapped))
    lost = keep[(h[keep] < SMALLEST) | (off[keep] >= h[keep])]
    if len(lost):
        raise AnalysisError(
            f"the outcome is so improbable from {shown(chain.names[lost[0]])!r} ({h[lost[0]]:.2g}) that nothing can "
            "be said of the runs that end so: leave out such nodes, or arrows to them"
        )
    inside = np.zeros(solver.n, bool)
    inside[keep] = True
    # A row is divided by its own sum, which is h but for rounding: so it sums to 1.
    taken = inside[rows] & inside[columns]
    rows, columns = rows[taken], columns[taken]
    weights, doubt = values[taken] * h[columns], values[taken] * off[columns]
    ends = np.where(stops, chain.stop, 0.0)
    sums = np.bincount(rows, weights=weights, minlength=solver.n) + ends
    sums_off = 1.01 * (np.bincount(rows, weights=doubt, minlength=solver.n) + solver.unit * sums)
    sums[~inside] = 1.0
    shares, stop = weights / sums[rows], ends / sums
    spread = 1.01 * sums_off / np.maximum(sums - sums_off, TINY)
    wrong = 1.01 * ((doubt + TINY) / (sums - sums_off)[rows] + shares * (spread[rows] + 3 * UNIT))
    stop_wrong = 1.01 * stop * (spread + 3 * UNIT)
    refusal = f"no run from this start can end so: {_said(outcome)}"
    first, first_wrong, chance, chance_off = law_of(law * h * inside, law * off + 2 * UNIT * law * h, refusal)
    size = (solver.n, solver.n)
    P = sparse.csr_array(sparse.csr_array((shares, (rows, columns)), shape=size)[keep][:, keep])
    P.eliminate_zeros()
    P.sort_indices()
    worst = max(float(part.max(initial=0.0)) for part in (wrong, stop_wrong[keep], first_wrong))
    names = tuple(chain.names[i] for i in keep)
    return Derived(names, P, stop[keep], first[keep], error_bound=worst, chance=chance, chance_bound=chance_off)


def _ends(chain: Chain, solver: Solver, outcome: str | Iterable[str]) -> tuple[Flags, Flags]:
    """Return at which nodes runs stop in the outcome, and which nodes are of its traps."""
    stops, trapped = np.zeros(solver.n, bool), np.zeros(solver.n, bool)
    traps = {trap_name(tuple(chain.names[i] for i in states)): states for states in solver.closed}
    around = {int(i): states for states in traps.values() for i in states}
    wanted = [outcome] if isinstance(outcome, str) else list(outcome)
    if not wanted:
        raise AnalysisError("no outcome is named: name a node where runs stop, or a trap")
    for name in wanted:
        i = chain.index.get(name)
        if i is None and name in traps:
            trapped[traps[name]] = True
        elif i is not None and i in around:
            trapped[around[i]] = True
        elif i is not None and chain.stop[i] > 0:
            stops[i] = True
        else:
            possible = [*(chain.names[k] for k in np.flatnonzero(chain.stop > 0)), *traps]
            few = ", ".join(map(shown, possible[:8])) + ", ..." * (len(possible) > 8)
            raise AnalysisError(f"no run ends at {shown(str(name))!r}: an outcome is one of {few}")
    return stops, trapped


def _able(P: sparse.csr_array, ends: Flags) -> Flags:
    """Return which states lead to any of some."""
    n = P.shape[0]
    rows = np.repeat(np.arange(n), np.diff(P.indptr))
    # Against the arrows, from one state more that leads to the ends.
    last = np.flatnonzero(ends)
    sources, targets = np.concatenate([P.indices, np.full(len(last), n)]), np.concatenate([rows, last])
    onward = sparse.csr_array((np.ones(len(sources)), (sources, targets)), shape=(n + 1, n + 1))
    found = csgraph.breadth_first_order(onward, n, return_predecessors=False)
    able = np.zeros(n + 1, bool)
    able[found] = True
    return able[:n]


def _said(outcome: str | Iterable[str]) -> str:
    return shown(outcome if isinstance(outcome, str) else ", ".join(map(str, outcome)))


def power(chain: Chain, k: int) -> Derived:
    """Return the chain of every k-th event; a run stops if it would stop on the way.

    Parameters
    ----------
    chain
        A chain.
    k
        How many steps are one; at least 1.

    Returns
    -------
    Derived
        With the transition chances `P^k` and the stop `(1 + P + ... + P^(k-1)) stop`.

    Raises
    ------
    AnalysisError
        If `k` is no whole number of at least 1, there would be more than 50 million arrows, or rounding would show in
        the rows' sums.

    Notes
    -----
    By repeated squaring: about `2 log2(k)` products of sparse matrices, which fill in. Every entry is a sum of products
    of numbers that are not negative, and right to the relative bound that is added up on the way (Higham, Accuracy and
    Stability of Numerical Algorithms (2002), section 3.5).

    Examples
    --------
    >>> power(Chain.from_matrix([[0.5]], ["try"], stop=[0.5]), 3).stop
    array([0.875])
    """
    k = whole("k", k, 1)
    made: tuple[sparse.csr_array, Vector, float] | None = None
    part = chain.P, chain.stop, 0.0
    left = k
    while left:
        if left & 1:
            made = part if made is None else _after(made, part)
        left >>= 1
        if left:
            part = _after(part, part)
    assert made is not None
    P, stop, wrong = made
    sums = np.asarray(P.sum(axis=1)).ravel() + stop
    if not (np.abs(sums - 1) <= ROW_SLACK).all():
        raise AnalysisError(
            f"after {k} steps the rows sum to {sums[np.argmax(np.abs(sums - 1))]:.12g}: that is rounding, multiplied. "
            "Take fewer steps, or ask for the long run (stationary)"
        )
    P = sparse.csr_array(P)
    P.eliminate_zeros()
    P.sort_indices()
    largest = max(float(P.data.max(initial=0.0)), float(stop.max()))
    return Derived(chain.names, P, np.minimum(stop, 1.0), chain.start, error_bound=wrong * largest + k * TINY)


def _after(
    a: tuple[sparse.csr_array, Vector, float], b: tuple[sparse.csr_array, Vector, float]
) -> tuple[sparse.csr_array, Vector, float]:
    """Return the steps of a and then those of b, and their relative bound."""
    lengths = np.diff(b[0].indptr)
    # What the product may come to hold is no more than the pairs of arrows, and no more than all entries.
    size = min(int(lengths[a[0].indices].sum()), a[0].shape[0] ** 2)
    if size > MOST and _filled(a[0], b[0]) > MOST:
        raise AnalysisError(f"a chain of that many steps has more than {MOST:,} arrows: take fewer steps, or lump it")
    terms = int(np.diff(a[0].indptr).max(initial=0)) + 3
    wrong = 1.01 * (a[2] + b[2] + a[2] * b[2] + terms * UNIT)
    return sparse.csr_array(a[0] @ b[0]), a[1] + a[0] @ b[1], wrong


def _filled(a: sparse.csr_array, b: sparse.csr_array) -> int:
    """Return about how many entries a product has, at most: from a sample of its rows."""
    n = a.shape[0]
    rows = np.unique(np.linspace(0, n - 1, min(n, 200)).astype(np.int64))
    return int((a[rows] @ b).nnz * (n / len(rows)))


def pairs(chain: Chain, start: Start = None) -> Chain:
    """Write a chain on pairs of nodes: a state is a node and the one before it, as `a > b`; where runs start, `b`.

    Nothing is learnt by that: it is the chain of order 2 that a chain of order 1 is. Beside it stands the one that
    traces show, `flowstat.estimate.second_order.second_order`: where the two differ, what comes next depends on more
    than the node. (Counts do not tell: they do not say what was before.)

    Parameters
    ----------
    chain
        A chain.
    start
        A node or a law over nodes; the chain's start law if not given.

    Returns
    -------
    Chain
        Exact. Its states are where runs start, then the chain's arrows by row.

    Raises
    ------
    ChainError
        If the start is no law over the nodes.
    AnalysisError
        If it would have more than 50 million arrows.

    Notes
    -----
    Linear in the arrows of the result: for each node, the arrows in times the arrows out. Source: Billingsley,
    Annals of Mathematical Statistics 32 (1961), section 5.

    Examples
    --------
    >>> two = pairs(Chain.from_matrix([[0, 1], [.5, 0]], ["a", "b"], "a", stop=[0, .5]))
    >>> two.names
    ('a', 'a > b', 'b > a')
    """
    law = start_law(chain, start)
    rows, columns, values = chain.arrows()
    begin = np.flatnonzero(law > 0)
    node = np.concatenate([begin, columns])
    lengths = np.diff(chain.P.indptr).astype(np.int64)[node]
    if lengths.sum() > MOST:
        raise AnalysisError(f"the pairs have {int(lengths.sum()):,} arrows, more than {MOST:,}: restrict or lump first")
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    arrow = ranges(chain.P.indptr.astype(np.int64)[node], lengths)
    n = len(node)
    P = sparse.csr_array((values[arrow], arrow + len(begin), indptr), shape=(n, n))
    names = [pair_name(None, chain.names[i]) for i in begin]
    names += [pair_name(chain.names[i], chain.names[j]) for i, j in zip(rows.tolist(), columns.tolist(), strict=True)]
    first = np.zeros(n)
    first[: len(begin)] = law[begin]
    return Chain(tuple(names), P, chain.stop[node], first)
