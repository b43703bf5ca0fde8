"""A chain whose runs never end: those of a chain that do go on at one more state for ever, where nothing happens."""

from __future__ import annotations

import numpy as np

from flowstat.analyze.solve import Vector
from flowstat.estimate.chain import END, Chain

__all__ = ["closed_chain", "end_name"]


def end_name(chain: Chain) -> str:
    """Return what the state is called where runs have ended: no node of the chain has that name."""
    name = END.strip("()")
    while name in chain.index:
        name += "'"
    return name


def closed_chain(chain: Chain, law: Vector) -> Chain:
    """Return the chain with one more state, the last one, where runs are that have ended; they start by a law.

    Examples
    --------
    >>> once = Chain.from_matrix([[0, 1], [0, 0]], ["ask", "done"], "ask", stop=[0, 1])
    >>> closed_chain(once, once.start).P.toarray().tolist()
    [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]
    """
    names, P = chain.closed()
    return Chain((*names[:-1], end_name(chain)), P, np.zeros(len(names)), np.append(law, 0.0))
