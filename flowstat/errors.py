"""The errors flowstat raises, in one tree, and the exit codes of its command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
"""A check failed, a replay diverged, or a run was stopped at its bound."""
EXIT_USAGE: Final = 2
"""Wrong usage or bad input."""
EXIT_INTERRUPTED: Final = 130

SHOWN_AT_ONCE: Final = 20
"""How many mistakes of one file a message lists before it only counts the rest."""


class FlowstatError(Exception):
    """Base of everything flowstat raises on purpose; its message says what to do."""


class Mistake(NamedTuple):
    """One thing wrong at one place of a text; `line` and `column` count from 1."""

    line: int
    column: int
    message: str
    excerpt: str
    """The line (cut around the column when long) and, under it, a caret."""


class GraphError(FlowstatError):
    """A graph file or a graph's parts are not right.

    `mistakes` holds every mistake found in a text, in order; it is empty when the error is not about a text.
    """

    def __init__(self, message: str, mistakes: Sequence[Mistake] = (), origin: str = "<text>") -> None:
        self.mistakes = tuple(mistakes)
        self.origin = origin
        parts = [message] if message else []
        for m in self.mistakes[:SHOWN_AT_ONCE]:
            parts.append(f"{origin}:{m.line}:{m.column}: {m.message}\n{m.excerpt}")
        if len(self.mistakes) > SHOWN_AT_ONCE:
            parts.append(f"... and {len(self.mistakes) - SHOWN_AT_ONCE} more mistakes in {origin}")
        super().__init__("\n".join(parts))


class TraceError(FlowstatError):
    """A trace file can't be read, or says something impossible."""


class ChainError(FlowstatError):
    """Counts or a matrix do not make a Markov chain."""


class AnalysisError(FlowstatError):
    """A question does not fit the chain, or its answer can't be computed to the stated accuracy."""


class RunError(FlowstatError):
    """A run can't start: behaviours, injections or bounds are not right."""


class OutputError(FlowstatError):
    """A result can't be written where it should go."""
