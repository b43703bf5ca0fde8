"""The chain in which every end starts a new run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import sparse

from flowstat.errors import AnalysisError
from flowstat.estimate.chain import Chain, Start, start_law

__all__ = ["restart"]

MOST = 20_000_000
"""Up to how many arrows from ends to starts are made."""


def restart(chain: Chain, start: Start = None) -> Chain:
    """Return the chain in which every end starts a new run: `P + stop start'`, without stops.

    Parameters
    ----------
    chain
        A chain.
    start
        A node or a law over nodes; the chain's start law if not given.

    Returns
    -------
    Chain
        With the same names, that starts in the same way. Nodes that no run comes to are kept.

    Raises
    ------
    ChainError
        If the start is no law over the nodes.
    AnalysisError
        If so many nodes are ends, and so many starts, that there would be too many arrows.

    Notes
    -----
    An arrow from each node that can be an end to each that can be a start: cost and memory are their product.

    Examples
    --------
    >>> line = Chain.from_matrix([[0, 1], [0, 0]], ["a", "b"], "a", stop=[0, 1])
    >>> restart(line).P.toarray().tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    law = start_law(chain, start)
    ends, starts = np.flatnonzero(chain.stop), np.flatnonzero(law)
    if len(ends) * len(starts) > MOST:
        raise AnalysisError(
            f"{len(ends):,} nodes are ends and {len(starts):,} starts: that makes too many arrows from ends to starts. "
            "Start at fewer nodes"
        )
    anew = sparse.csr_array(chain.stop[:, None]) @ sparse.csr_array((law / law.sum())[None, :])
    P = sparse.csr_array(chain.P + anew)
    P.sort_indices()
    P.eliminate_zeros()
    return replace(chain, P=P, stop=np.zeros_like(chain.stop), start=law)
