"""Components: programs beside the graph, whose output lines are messages; started, watched, and ended with the run."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from queue import Empty, Full, Queue
from time import monotonic
from types import TracebackType
from typing import Self

from flowstat.errors import RunError
from flowstat.read.graph import Component
from flowstat.read.words import shown
from flowstat.run.guard import Guard
from flowstat.run.lines import Line
from flowstat.run.program import ROOM, Program, Supervision

__all__ = ["Components"]


CROWD = 65_536
"""Lines that may wait besides, while a program that writes them takes none."""


class Components:
    """The programs of a graph while a run goes on.

    Parameters
    ----------
    components
        Of the graph.
    say
        Called with each line for the log: a program's standard error, its restarts and its end.
    supervision
        How they are kept.

    Raises
    ------
    RunError
        If a program can't be started at all.
    """

    def __init__(
        self,
        components: Iterable[Component],
        say: Callable[[str], object] | None = None,
        supervision: Supervision | None = None,
    ) -> None:
        self.inbox: Queue[Line] = Queue(ROOM)
        self.overflow: deque[Line] = deque()
        self._say = say or (lambda line: print(line, file=sys.stderr, flush=True))
        self.ending = threading.Event()
        components = tuple(components)
        served = [c.node for c in components if c.node is not None]
        for node in served:
            if served.count(node) > 1:
                raise RunError(f"two components take the messages of {shown(node)}: give one of them a node of its own")
        how = self._how = supervision or Supervision()
        self._told: set[Program] = set()
        self.guard = Guard()
        self.programs = [Program(c, self, how) for c in components]
        try:
            for program in self.programs:
                program.start()
        except BaseException:
            self.stop()
            raise

    def taking(self) -> Mapping[str, Program]:
        """Return the programs that take messages, by their nodes."""
        return {p.component.node: p for p in self.programs if p.component.node is not None}

    def take(self, timeout: float | None) -> Line | None:
        """Return the next message or answer; None when `timeout` seconds are over, or a program has ended."""
        if self.overflow:
            return self.overflow.popleft()
        ended = monotonic() + timeout if timeout is not None else None
        while True:
            left = 0.05 if ended is None else min(0.05, ended - monotonic())
            try:
                return self.inbox.get(timeout=max(0.0, left))
            except Empty:
                if ended is not None and monotonic() >= ended:
                    return None
                if not self.running():
                    return None
                self._tell_of_late()

    def waiting(self) -> bool:
        """Whether a message or an answer is there."""
        return bool(self.overflow) or not self.inbox.empty()

    def running(self) -> bool:
        """Whether something may still come: a source runs, or a program was told that its input is over."""
        return any(not p.ended and (p.component.kind == "source" or p.closed) for p in self.programs) or self.waiting()

    def close_next(self) -> bool:
        """Tell the next program that its input is over; False when all have been told."""
        for program in self.programs:
            if program.component.kind != "source" and not program.closed:
                program.close()
                return True
        return False

    def make_room(self) -> bool:
        """Take in what has come, so that no program waits for us while we wait for it; False where it is too much."""
        with contextlib.suppress(Empty):
            while len(self.overflow) < CROWD:
                self.overflow.append(self.inbox.get_nowait())
        return len(self.overflow) < CROWD

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End all programs: first by closing their input, then by SIGTERM, then by SIGKILL."""
        self.ending.set()
        for program in self.programs:
            program.close()
        # Side by side: the patience of one is that of all.
        threads = [threading.Thread(target=program.stop, daemon=True) for program in self.programs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.guard.close()

    def put(self, item: Line) -> None:
        """Let a line wait for the loop; blocks while there is no room, and so does the program in the end."""
        while not self.ending.is_set():
            try:
                self.inbox.put(item, timeout=0.1)
            except Full:
                continue
            return

    def say(self, program: Program, line: str) -> None:
        """Write a line to the log."""
        told = f"{program.name} {line}"
        try:
            self._say(told)
        except Exception as error:  # a program goes on whatever its log does
            print(f"{told} (the log failed: {type(error).__name__}: {error})", file=sys.stderr)

    def _tell_of_late(self) -> None:
        """Tell which program the run waits for, once."""
        for program in self.programs:
            late = program.closed and not program.ended and monotonic() - program.closed_at > self._how.patience
            if late and not self.ending.is_set() and program not in self._told:
                self._told.add(program)
                self.say(program, "runs on though its input is over: the run waits for it, until interrupted (Ctrl-C)")
