"""A mirror: another process that follows a journal, has the same states, and takes over when the first is killed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import sleep
from typing import Any, ClassVar
from zlib import crc32

import msgspec

from flowstat.errors import RunError
from flowstat.read.canonical import TraceWriter
from flowstat.read.graph import Graph
from flowstat.read.words import shown
from flowstat.results import Result, Row, counted
from flowstat.run.behaviour import Behaviour
from flowstat.run.comparison import compare_states
from flowstat.run.conduct import conduct, journalled_clock
from flowstat.run.journal import FRAME, MAGIC
from flowstat.run.journal_writer import JournalWriter, lock
from flowstat.run.loop import Injection, Limits, Progress
from flowstat.run.tally import RunResult

__all__ = ["MirrorResult", "mirror"]

LOOK = 0.005
"""Seconds between two looks at a journal that has not grown."""


@dataclass(frozen=True)
class MirrorResult(Result):
    """What a mirror did.

    Attributes
    ----------
    run
        All that it handled: the run's messages, and its own after it took over.
    followed
        How many messages from outside the run had accepted.
    compared
        How often all states were compared with those of the run; all were the same.
    took_over
        Whether the run was killed.
    states
        Digests of the nodes' states at the end.
    """

    title: ClassVar[str] = "States"
    columns: ClassVar[tuple[str, ...]] = ("node", "digest")

    run: RunResult
    followed: int
    compared: int
    took_over: bool
    states: Mapping[str, str]

    def rows(self) -> list[Row]:
        """Return the digest of each node's state."""
        return [{"node": node, "digest": found} for node, found in sorted(self.states.items())]

    def to_dict(self) -> dict[str, Any]:
        """Return all of the result as JSON-ready data."""
        return {**super().to_dict(), "run": self.run.to_dict(), "states": dict(self.states)}

    def notes(self) -> tuple[str, ...]:
        """Return `sentences`."""
        return tuple(self.sentences())

    def sentences(self) -> list[str]:
        """Return what happened, a sentence each."""
        said = [
            f"Followed {counted(self.followed, 'message')} from outside; {counted(self.run.events, 'event')} handled."
        ]
        if self.compared:
            said.append(f"All states compared {counted(self.compared, 'time')} with the run's: they are the same.")
        said.append("The run was killed: taken over." if self.took_over else "The run came to its end.")
        return said


def mirror(
    graph: Graph,
    behaviours: Mapping[str, Behaviour],
    journal: str | Path,
    injections: Iterable[Injection] = (),
    writer: TraceWriter | None = None,
    *,
    progress: Progress | None = None,
    marks: int = 0,
) -> MirrorResult:
    """Follow a journal, and take over when its writer is killed; see `App.mirror`."""
    path = Path(journal)
    with _Follower(path, marks) as follower:
        header = follower.header()
        if journalled_clock(header, graph, path) is not None:
            raise RunError(f"{path} is of a run in time or with components: only one without a clock can be mirrored")
        states: dict[str, str] = {}
        run = conduct(
            graph,
            behaviours,
            header["seed"],
            injections,
            writer,
            limits=Limits(*header["limits"]),
            clock=None,
            progress=progress,
            live=False,
            states=states,
            journal=follower,
        )
        return MirrorResult(run, follower.followed, follower.compared, follower.writer is not None, states)


class _Follower:
    """Stands in for the writer of a journal while another process is that; becomes it when that one is killed."""

    def __init__(self, path: Path, marks: int) -> None:
        self._path = path
        self._marks = marks
        self._place = len(MAGIC)
        self._stack = ExitStack()
        self._recorded_end: Mapping[str, Any] | None = None
        self.followed = self.compared = 0
        self.writer: JournalWriter | None = None
        while not path.exists() or path.stat().st_size < len(MAGIC):
            sleep(LOOK)
        try:
            self._file = self._stack.enter_context(path.open("r+b", buffering=0))
        except OSError as error:
            raise RunError(f"can't follow the journal {path}: {error.strerror or error}") from None
        if self._file.read(len(MAGIC)) != MAGIC:
            self._stack.close()
            raise RunError(f"{path} is no journal of flowstat")

    def __enter__(self) -> _Follower:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def header(self) -> Mapping[str, Any]:
        """Return the header, as soon as it is there."""
        found = next(self._frames(), None)
        if found is None:
            raise RunError(f"the run of {self._path} was killed before it accepted anything: start it anew")
        return found  # type: ignore[no-any-return]

    def following(
        self, injections: Iterable[Injection], states: Callable[[], Mapping[str, str]]
    ) -> Iterator[Injection]:
        """Yield what the run accepts, and, once it is killed, what it has not accepted yet."""
        for content in self._frames():
            if not isinstance(content, dict):
                for node, key, body, *_ in content:
                    self.followed += 1
                    yield node, key, body
                continue
            if "end" in content:
                self._recorded_end = content["end"]
                return
            self._compare(content["states"], states())
        writer = JournalWriter(self._path, size=self._place, marks=self._marks, file=self._file)
        self.writer = self._stack.enter_context(writer)
        yield from self.writer.following(islice(injections, self.followed, None), states)

    def end(self, end: Mapping[str, Any]) -> None:
        """Write how the run ended, or compare with how it did."""
        if self.writer is not None:
            self.writer.end(end)
        elif self._recorded_end is not None:
            self._compare(self._recorded_end["states"], end["states"])

    def _compare(self, recorded: Mapping[str, str], states: Mapping[str, str]) -> None:
        found = compare_states(recorded, states)
        if found:
            raise RunError(
                f"the mirror's state of {shown(found.node or '')} is not that of the run, after "
                f"{counted(self.followed, 'message')} from outside: its behaviour uses what is not in the journal"
            )
        self.compared += 1

    def _frames(self) -> Iterator[Any]:
        """Yield the content of each frame as it comes; end when no process writes any more."""
        alone = False
        while True:
            self._file.seek(self._place)
            head = self._file.read(FRAME.size)
            length, checksum = FRAME.unpack(head) if len(head) == FRAME.size else (0, 0)
            data = self._file.read(length)
            if length and len(data) == length and crc32(data) == checksum:
                self._place += FRAME.size + length
                yield msgspec.msgpack.decode(data)
            elif alone:
                return  # and what is left of a frame is cut off
            else:
                # Once more after it is known that nobody writes: its last frame may have come meanwhile.
                alone = lock(self._file.fileno())
                if not alone:
                    sleep(LOOK)
