"""What reading found on the way: records skipped, lines cut off, spans twice. Counted, each with one example."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from flowstat.errors import TraceError

__all__ = ["Notices", "Problem"]


@dataclass(frozen=True)
class Problem:
    """Something about a trace that a reader of its numbers must know: what, how often, one example."""

    what: str
    number: int
    example: str


class Notices:
    """Collects problems while traces are read; decides whether a bad record ends the reading.

    Parameters
    ----------
    skip_bad
        Count a record that can't be read and go on, in place of raising.
    advance
        Called with every number of bytes that were read of a file, packed as they are.
    """

    def __init__(self, skip_bad: bool = False, advance: Callable[[int], None] = lambda n: None) -> None:
        self.skip_bad = skip_bad
        self.advance = advance
        self._found: dict[str, Problem] = {}

    def bad(self, where: str, what: str) -> None:
        """A record can't be read: raise a TraceError, or count it as skipped; `where` is file and record number."""
        if not self.skip_bad:
            raise TraceError(f"{where}: {what}")
        self.note("records that can't be read, skipped", f"{where}: {what}")

    def note(self, what: str, example: str, number: int = 1) -> None:
        """Count `number` more of a kind of problem; the first example is kept."""
        before = self._found.get(what)
        self._found[what] = Problem(
            what, int(number) + (before.number if before else 0), before.example if before else example
        )

    def extend(self, problems: Iterable[Problem]) -> None:
        """Add problems that were counted elsewhere."""
        for problem in problems:
            self.note(problem.what, problem.example, problem.number)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What was found so far, in the order of finding."""
        return tuple(self._found.values())
