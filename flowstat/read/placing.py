"""Where in a text the mistakes are: line and column, with the line itself and a caret under it."""

from __future__ import annotations

from collections.abc import Iterable

from flowstat.errors import Mistake

__all__ = ["placed"]

EXCERPT = 100
"""How much of a long line an error shows."""


def placed(text: str, mistakes: Iterable[tuple[int, str]]) -> list[Mistake]:
    """Turn offsets and messages into mistakes, in the order of the text.

    Examples
    --------
    >>> [(m.line, m.column, m.excerpt) for m in placed("one\\ntwo", [(5, "not this")])]
    [(2, 2, '    two\\n     ^')]
    """
    found = []
    line, line_start, seen = 1, 0, 0
    for position, message in sorted(mistakes):
        if position == len(text):
            # What is missing at the end of the file is shown where its last words are.
            position = max(seen, len(text.rstrip()))
        line += text.count("\n", seen, position)
        line_start = max(line_start, text.rfind("\n", seen, position) + 1)
        seen = position
        column = position - line_start
        cut = max(0, column - EXCERPT // 2)
        content = text[line_start + cut : line_start + cut + EXCERPT].split("\n", 1)[0].replace("\t", " ")
        excerpt = f"    {content}\n    {' ' * (column - cut)}^"
        found.append(Mistake(line, column + 1, message, excerpt))
    return found
