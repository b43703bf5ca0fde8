"""A chain that was computed from another, with how far its numbers may be off."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from flowstat.analyze.elimination import UNIT
from flowstat.analyze.solve import Index, Vector
from flowstat.errors import AnalysisError, ChainError
from flowstat.estimate.chain import Chain
from flowstat.read.words import shown

__all__ = ["MOST", "Derived", "law_of", "positions", "whole"]

MOST = 50_000_000
"""How many arrows a chain may come to have; more would fill the memory."""


@dataclass(frozen=True, eq=False)
class Derived(Chain):
    """A chain that was computed from another; every analysis takes it as any chain.

    Analyses of it are about its numbers as they are: their own bounds do not count `error_bound` in.

    Attributes
    ----------
    error_bound
        How far any entry of `P`, `stop` or `start` may be off, proven.
    chance
        Which share of the first chain's runs it is about.
    chance_bound
        How far that share may be off.
    """

    error_bound: float = 0.0
    chance: float = 1.0
    chance_bound: float = 0.0


def positions(chain: Chain, nodes: Iterable[str], what: str = "node") -> Index:
    """Return the positions of some nodes, sorted and each once.

    Raises
    ------
    ChainError
        If one is not there, or there is none.
    """
    found = set()
    for name in [nodes] if isinstance(nodes, str) else nodes:
        if name not in chain.index:
            few = ", ".join(map(shown, chain.names[:8]))
            raise ChainError(
                f"no {what} is called {shown(str(name))!r}: there are {few}{', ...' * (len(chain.names) > 8)}"
            )
        found.add(chain.index[name])
    if not found:
        raise ChainError(f"no {what} is named: name at least one")
    return np.array(sorted(found), np.int64)


def whole(what: str, value: float, least: int) -> int:
    """Return a whole number, such as 1e6, as an int.

    Raises
    ------
    AnalysisError
        If it is none, or less than the least one.

    Examples
    --------
    >>> whole("runs", 1e6, 1)
    1000000
    """
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        number = least - 1
    if number < least or number != value or isinstance(value, bool | np.bool_):
        raise AnalysisError(f"{what} is a whole number of at least {least}, not {value!r}")
    return number


def law_of(weights: Vector, bound: Vector, refusal: str) -> tuple[Vector, Vector, float, float]:
    """Return weights as a law, how far that may be off, and their sum with its bound.

    Raises
    ------
    AnalysisError
        If their sum is 0 or can't be told from it; it says `refusal`.
    """
    total = float(weights.sum())
    off = 1.01 * float(bound.sum() + (len(weights) + 2) * UNIT * total)
    if total <= 0 or off >= total:
        raise AnalysisError(refusal)
    law = weights / total
    return law, 1.01 * ((bound + law * off) / (total - off) + 2 * UNIT * law), min(1.0, total), off
