"""A mirror: another process that follows a journal, has the same states, and takes over when the first is killed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import sleep, time_ns
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
from flowstat.run.feeds import Feed, MakeFeed
from flowstat.run.interrupts import INTERRUPTED
from flowstat.run.journal import FRAME, LARGEST, MAGIC, Entry, damaged
from flowstat.run.journal_writer import JournalWriter, lock
from flowstat.run.journalled import JournalledFeed, Marked, ReplayFeed, States
from flowstat.run.latencies import VirtualTime
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
    interrupted
        Whether the run was interrupted before all was handled that it had accepted, as the mirror did.
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
    interrupted: bool = False

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
        if self.took_over:
            said.append("The run was killed: taken over.")
        elif self.interrupted:
            said.append("The run was interrupted; the mirror has handled all that it had accepted.")
        return [*said, *self.run.sentences()]


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
        clock = journalled_clock(header, graph, path)
        if header["components"]:
            raise RunError(f"{path} is of a run with components: such a run can be replayed, but not mirrored")
        run = conduct(
            graph,
            behaviours,
            int(header["seed"]),
            injections,
            writer,
            limits=Limits(*header["limits"]),
            clock=clock if clock is None or isinstance(clock, VirtualTime) else time_ns,
            progress=progress,
            live=False,
            journal=follower,
        )
        return MirrorResult(
            run,
            follower.followed,
            follower.compared,
            follower.writer is not None,
            follower.states,
            follower.interrupted,
        )


class _Follower:
    """Stands in for the writer of a journal while another process is that; becomes it when that one is killed."""

    def __init__(self, path: Path, marks: int) -> None:
        self._path = path
        self._marks = marks
        self._place = len(MAGIC)
        self._stack = ExitStack()
        self._recorded_end: Mapping[str, Any] | None = None
        self.followed = self.compared = 0
        self.interrupted = False
        self.states: States = {}
        self.writer: JournalWriter | None = None
        self.pulled: Callable[[], object] = tuple
        try:
            while not path.exists() or path.stat().st_size < len(MAGIC):
                sleep(LOOK)
            self._file = self._stack.enter_context(path.open("r+b", buffering=0))
            magic = self._file.read(len(MAGIC))
        except OSError as error:
            raise RunError(f"can't follow the journal {path}: {error.strerror or error}") from None
        if magic != MAGIC:
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

    def following(self, injections: Iterable[Injection], states: Callable[[], States]) -> Iterator[Injection]:
        """Yield what the run accepts, and, once it is killed, what it has not accepted yet."""
        for item in self._items():
            if isinstance(item, Marked):
                self._compare(item.states, states(), item.after)
            elif item.node is not None:
                yield item.node, item.key, item.body
        if self._recorded_end is None:
            yield from self._take_over().following(islice(injections, self.followed, None), states)

    def feed(self, make: MakeFeed, states: Callable[[], States]) -> Feed:
        """Return the feed of a run in time: what the run takes, and, once it is killed, what comes then."""

        def go_on(now: int | None) -> Feed | None:
            if self._recorded_end is not None:
                return None
            return JournalledFeed(make(self.followed, now), self._take_over(), states, now)

        return ReplayFeed(self._items(), lambda mark: self._compare(mark.states, states(), mark.after), go_on)

    def end(self, end: Mapping[str, Any]) -> None:
        """Write how the run ended, or compare with how it did."""
        self.states = end["states"] or {}
        recorded = self._recorded_end
        if self.writer is not None:
            self.writer.end(end)
        elif recorded is not None and recorded["states"] is not None and end["states"] is not None:
            # It may have been interrupted between two events: the mirror had heard of nothing, and went on.
            self.interrupted = recorded["stopped"] == INTERRUPTED and recorded["span"] < end["span"]
            if not self.interrupted:
                self._compare(recorded["states"], end["states"], self.followed)

    def _take_over(self) -> JournalWriter:
        writer = JournalWriter(self._path, size=self._place, marks=self._marks, file=self._file)
        writer.pulled = lambda: self.pulled()
        self.writer = self._stack.enter_context(writer)
        return writer

    def _compare(self, recorded: States, states: States, after: int) -> None:
        found = compare_states(recorded, states, "then")
        if found:
            raise RunError(
                f"the mirror's state of {shown(found.node or '')} is not that of the run, after "
                f"{counted(after, 'message')} from outside: its behaviour uses what is not in the journal, or is not "
                "the run's"
            )
        self.compared += 1

    def _items(self) -> Iterator[Entry | Marked]:
        """Yield what the run accepts as it comes, and its states where they are marked, until it ends or is killed."""
        for content in self._frames():
            if not isinstance(content, dict):
                for entry in map(Entry._make, content):
                    self.followed += entry.from_outside
                    yield entry
            elif "end" in content:
                self._recorded_end = content["end"]
                return
            else:
                yield Marked(self.followed, content["states"])

    def _frames(self) -> Iterator[Any]:
        """Yield the content of each frame as it comes; end when no process writes any more.

        Raises
        ------
        RunError
            If a frame is wrong and more comes after it: what was accepted is not cut off then.
        """
        alone = False
        while True:
            self._file.seek(self._place)
            head = self._file.read(FRAME.size)
            length, checksum = FRAME.unpack(head) if len(head) == FRAME.size else (0, 0)
            data = self._file.read(length) if length < LARGEST else b""
            if length and len(data) == length and crc32(data) == checksum:
                self._place += FRAME.size + length
                yield msgspec.msgpack.decode(data)
            elif alone:
                if length >= LARGEST or (len(data) == length and self._is_more()):
                    raise damaged(self._path, self._place)
                return  # and what is left of a frame is cut off
            else:
                # Once more after it is known that nobody writes: its last frame may have come meanwhile.
                alone = lock(self._file.fileno())
                if not alone:
                    sleep(LOOK)

    def _is_more(self) -> bool:
        """Whether something was written from here on; room that was made for it is nothing."""
        while found := self._file.read(1 << 20):
            if any(found):
                return True
        return False
