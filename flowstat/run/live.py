"""The feed of a run with components: real time, given messages, and the lines of programs."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from flowstat.run.components import Components
from flowstat.run.feeds import Answer, Ended
from flowstat.run.inject import pulling
from flowstat.run.lines import Line, line_of
from flowstat.run.loop import Injection
from flowstat.run.moments import SECOND
from flowstat.run.network import Clock
from flowstat.run.program import ProgramEnded

__all__ = ["LiveFeed"]

LOOK = 0.02
"""Seconds between two looks at a stream of messages, while programs say nothing."""

CROWD = 256
"""How many messages may wait before programs have to."""


class LiveFeed:
    """Takes what programs write, and given messages when nothing else is there.

    The k-th line of a wire answers the k-th message that it took. At the end the input of each program is closed, in
    the order of the graph; what it has not answered then, it answers with nothing.
    """

    def __init__(self, components: Components, injections: Iterable[Injection], clock: Clock) -> None:
        self._components = components
        self._programs = components.taking()
        self._pull = pulling(injections)
        self._more = True
        self._handed: dict[str, deque[int]] = {node: deque() for node in self._programs}
        self._there: deque[Injection | Answer] = deque()
        self.now = clock

    def send(self, node: str, key: str, body: object) -> None:
        """Hand a message to the program of a node; a sink answers at once, with nothing."""
        program = self._programs[node]
        try:
            life = program.send(line_of(key, body))
        except ProgramEnded:
            self._there.append(Answer(node, "failed"))
            return
        if program.component.kind == "wire":
            self._handed[node].append(life)
        else:
            self._there.append(Answer(node, "silent"))

    def due(self, until: int | None, turn: int, crowd: int) -> bool:
        """Whether a line is there, or a time has come."""
        if until is not None and until <= self.now():
            return True
        if crowd >= CROWD:
            return False
        # Not every line says something: one that only tells of a program's end may have nothing to answer.
        while not self._there and self._components.waiting():
            self._sort(self._components.take(0))
        return bool(self._there)

    def take(self, until: int | None, turn: int) -> Injection | Answer | None:
        """Wait for the next line, or for a time."""
        while True:
            if self._there:
                return self._there.popleft()
            left = None if until is None else (until - self.now()) / SECOND
            if left is not None and left <= 0:
                return None
            if not self._components.waiting() and self._more:
                try:
                    found = self._pull(0)
                except StopIteration:
                    self._more = False
                else:
                    if found is not None:
                        return found
            coming = self._more and not self._components.waiting()
            line = self._components.take(left if not coming else LOOK if left is None else min(left, LOOK))
            if line is not None:
                self._sort(line)
            elif until is None and not coming and not self._components.running() and not self._components.close_next():
                raise Ended

    async def pause(self, wait: int) -> None:
        """Let so many nanoseconds pass."""
        await asyncio.sleep(wait / SECOND)

    def _sort(self, line: Line | None) -> None:
        """Tell what a line is: a message, or what it answers; what an earlier life of a wire took is lost."""
        if line is None:
            return
        if not line.wire:
            self._there.append((line.node, line.key, line.body))
            return
        handed, there = self._handed[line.node], self._there
        closed = self._programs[line.node].closed
        while handed and handed[0] < line.life:
            silent = line.over and closed and not line.failed and handed[0] == line.life - 1
            handed.popleft()
            there.append(Answer(line.node, "silent" if silent else "failed"))
        if not line.over:
            if handed:
                handed.popleft()
            there.append(Answer(line.node, "sent", line.key, line.body))
