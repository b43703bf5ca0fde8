"""Small numbers for the words of a trace."""

from __future__ import annotations

from collections.abc import Iterable

from flowstat.read.patterns import format_pattern

__all__ = ["Codes"]


class Codes:
    """Small numbers for what the rows of a trace repeat; a batch of rows is made from them at once.

    A hop's code is its place in `parent`, `name` and `key`, which hold places in `nodes` and `keys`, or
    -1 for null. Send patterns are numbered by `sent`; 0 is the empty one.
    """

    def __init__(self) -> None:
        self.nodes: dict[str, int] = {}
        self.keys: dict[str, int] = {}
        self.sent: dict[str, int] = {"": 0}
        self.parent: list[int] = []
        self.name: list[int] = []
        self.key: list[int] = []

    def add(self, parent: str | None, name: str | None, key: str | None) -> int:
        """Number a hop."""
        for column, codes, word in (
            (self.parent, self.nodes, parent),
            (self.name, self.nodes, name),
            (self.key, self.keys, key),
        ):
            column.append(-1 if word is None else codes.setdefault(word, len(codes)))
        return len(self.name) - 1

    def pattern(self, targets: Iterable[str]) -> int:
        """Number the send pattern of these targets."""
        return self.sent.setdefault(format_pattern(targets), len(self.sent))
