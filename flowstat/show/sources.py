"""The files that a report's numbers come from: what they hold, from when to when, and their hashes."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import ClassVar

from flowstat.errors import TraceError
from flowstat.estimate.summary import FileSummary, Summary
from flowstat.read.traces import Traces
from flowstat.results import Result, Row

__all__ = ["Sources", "sources_of"]

BLOCK = 1 << 20


@dataclass(frozen=True)
class Source:
    """A graph file or a trace; `hash` is the SHA-256 of its bytes, or of those of its files, one after another."""

    file: str
    what: str
    runs: int | None
    events: int | None
    first: str | None
    last: str | None
    hash: str


@dataclass(frozen=True)
class Sources(Result):
    """What a report is about."""

    title: ClassVar[str] = "Files"
    columns: ClassVar[tuple[str, ...]] = ("file", "what", "runs", "events", "first", "last", "sha256")
    files: tuple[Source, ...]

    def rows(self) -> list[Row]:
        """Return one row a file."""
        return [
            {
                "file": s.file,
                "what": s.what,
                "runs": s.runs,
                "events": s.events,
                "first": s.first,
                "last": s.last,
                "sha256": s.hash,
            }
            for s in self.files
        ]


def sources_of(graph: str | Path | None, traces: Traces | None = None, found: Summary | None = None) -> Sources:
    """Return the files that numbers come from.

    Parameters
    ----------
    graph
        The graph file; None for one that is not a file.
    traces
        The traces, and what `summarise` says of them.

    Raises
    ------
    TraceError
        If a file can't be read.
    """
    listed = [] if graph is None else [Source(str(graph), "graph", None, None, None, None, _hash([Path(graph)]))]
    summaries: dict[str, FileSummary] = {s.file: s for s in found.files.files} if found is not None else {}
    for file in traces.files if traces is not None else ():
        of = summaries.get(file.origin)
        listed.append(
            Source(
                file.origin,
                file.format,
                of.runs if of else None,
                of.events if of else None,
                of.first if of else None,
                of.last if of else None,
                _hash(file.parts),
            )
        )
    return Sources(tuple(listed))


def _hash(paths: list[Path] | tuple[Path, ...]) -> str:
    digest = sha256()
    for path in paths:
        try:
            with open(path, "rb") as file:
                while block := file.read(BLOCK):
                    digest.update(block)
        except OSError as error:
            raise TraceError(f"can't read {path}: {error.strerror or error}") from None
    return digest.hexdigest()
