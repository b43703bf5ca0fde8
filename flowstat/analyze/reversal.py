"""The chain that runs backwards: what came before, in the long run."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from flowstat.analyze.bounded import exact, quotient, row_sums, times
from flowstat.analyze.derived import Derived
from flowstat.analyze.passage import closed_class
from flowstat.analyze.solve import Solved, Solver
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import Chain
from flowstat.read.words import shown

__all__ = ["reversal"]


def reversal(chain: Chain, node: str | None = None) -> Derived:
    """Return the time reversal of a closed class: from i to j with `pi_j p_ji / pi_i`.

    Parameters
    ----------
    chain
        A chain.
    node
        A node of the closed class; not needed if there is only one.

    Returns
    -------
    Derived
        A chain on the nodes of the class that starts in its stationary law; `error_bound` is that of any share. A
        class is reversible if it equals its reversal: see `flowstat.analyze.reversible`.

    Raises
    ------
    ChainError
        For a name that is unknown.
    AnalysisError
        If it is not clear which class is meant, or a node's part of the stationary law is too small to be divided by.

    Notes
    -----
    Norris, Markov Chains (1997), theorem 1.9.1. Each row is divided by its own sum, which is `pi_i`, so that it sums to
    1 whatever the law's error is. Cost: the stationary law; linear beside it.

    Examples
    --------
    >>> turn = Chain.from_matrix([[0, 0.75, 0.25], [0.25, 0, 0.75], [0.75, 0.25, 0]])
    >>> reversal(turn).P.toarray().round(12).tolist()
    [[0.0, 0.25, 0.75], [0.75, 0.0, 0.25], [0.25, 0.75, 0.0]]
    """
    solver = Solver(chain.P, chain.stop)
    states = closed_class(chain, solver, node)
    law = solver.stationary(states)
    block = sparse.coo_array(chain.P[states][:, states].T)
    back = block.col
    flow = times(Solved(law.values[back], law.bound[back]), exact(block.data))
    sums = row_sums(block.row.astype(np.int64), flow, len(states))
    shares = quotient(flow, Solved(sums.values[block.row], sums.bound[block.row]))
    vague = ~np.isfinite(shares.bound)
    if vague.any():
        name = shown(chain.names[states[block.row[np.argmax(vague)]]])
        raise AnalysisError(f"{name!r} is too small a part of the long run to say what came before it")
    P = sparse.csr_array((shares.values, (block.row, block.col)), shape=block.shape)
    P.sort_indices()
    names = tuple(chain.names[i] for i in states)
    error = float(max(shares.bound.max(), law.bound.max()))
    return Derived(names, P, np.zeros(len(states)), law.values / law.values.sum(), error_bound=error)
