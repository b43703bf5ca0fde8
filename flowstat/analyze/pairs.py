"""Pairs of nodes as one writes them: `a -> b`."""

from __future__ import annotations

import json
from collections.abc import Iterator

from flowstat.estimate.chain import END, Chain

__all__ = ["pair_of", "splits", "unquoted"]


def pair_of(chain: Chain, text: str) -> tuple[str, str] | None:
    """Return the nodes of a pair, of which the second may be `(end)`; None if the text names none.

    Names may have `->` in them, or be written in quotes, as in a graph file.

    Examples
    --------
    >>> pair_of(Chain.from_matrix([[0, 1], [0, 1]], ["a->b", "c"]), '"a->b" -> c')
    ('a->b', 'c')
    """
    for left, right in splits(text, "->"):
        source, target = unquoted(left), unquoted(right)
        if source in chain.index and (target in chain.index or target == END):
            return source, target
    return None


def splits(text: str, mark: str) -> Iterator[tuple[str, str]]:
    """Yield a text in two, at every mark in it."""
    at = text.find(mark)
    while at >= 0:
        yield text[:at], text[at + len(mark) :]
        at = text.find(mark, at + 1)


def unquoted(text: str) -> str:
    """Return a name without the quotes that it may be written in."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        try:
            return str(json.loads(text))
        except ValueError:
            return text
    return text
