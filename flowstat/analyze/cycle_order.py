"""The order of cycles: by weight, and equals the same way every time."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["TIE", "first", "in_order"]

TIE = 1e-9
"""Cycles whose weights differ by less are put in order by length and names."""


def in_order(entries: list[tuple[float, tuple[int, ...]]], names: Sequence[str], top: int) -> list[tuple[int, ...]]:
    """Return cycles in order of their weights, equals by length and names: as many as wanted, and one more."""
    entries.sort()
    ranked: list[tuple[int, ...]] = []
    begin = 0
    while begin < len(entries) and len(ranked) <= top:
        # Weights of equal products differ in their last digits: a step starts a new rank.
        end = begin + 1
        while end < len(entries) and entries[end][0] <= entries[begin][0] + TIE:
            end += 1
        if end == begin + 1:
            ranked.append(first(entries[begin][1]))
        else:
            group = [first(path) for _, path in entries[begin:end]]
            ranked += sorted(group, key=lambda path: (len(path), _named(path, names)))
        begin = end
    return ranked[: top + 1]


def first(path: tuple[int, ...]) -> tuple[int, ...]:
    """Return a cycle from its first node in the chain's order."""
    at = path.index(min(path))
    return path[at:] + path[:at]


def _named(path: tuple[int, ...], names: Sequence[str]) -> tuple[str, ...]:
    """Return a cycle's names from the alphabetically first: the same for every order of the chain."""
    called = tuple(names[i] for i in path)
    at = called.index(min(called))
    return called[at:] + called[:at]
