"""The feed of a run with components: real time, given messages, and the lines of programs."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from flowstat.run.components import Components
from flowstat.run.feeds import Answer, Ended
from flowstat.run.loop import Injection
from flowstat.run.network import SECOND, Clock
from flowstat.run.program import Line, ProgramEnded, line_of

__all__ = ["LiveFeed"]

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
        self._injections = iter(injections)
        self._more = True
        self._handed: dict[str, deque[int]] = {node: deque() for node in self._programs}
        self._answers: deque[Answer] = deque()
        self.now = clock

    def send(self, node: str, key: str, body: object) -> None:
        """Hand a message to the program of a node; a sink answers at once, with nothing."""
        program = self._programs[node]
        try:
            life = program.send(line_of(key, body))
        except ProgramEnded:
            self._answers.append(Answer(node, "failed"))
            return
        if program.component.kind == "wire":
            self._handed[node].append(life)
        else:
            self._answers.append(Answer(node, "silent"))

    def due(self, until: int | None, turn: int, crowd: int) -> bool:
        """Whether a line is there, or a time has come."""
        if until is not None and until <= self.now():
            return True
        return crowd < CROWD and (bool(self._answers) or self._components.waiting())

    def take(self, until: int | None, turn: int) -> Injection | Answer | None:
        """Wait for the next line, or for a time."""
        while True:
            if self._answers:
                return self._answers.popleft()
            left = None if until is None else (until - self.now()) / SECOND
            if left is not None and left <= 0:
                return None
            if not self._components.waiting() and self._more:
                found = next(self._injections, None)
                if found is not None:
                    return found
                self._more = False
            line = self._components.take(left)
            if line is not None:
                if not line.wire:
                    return line.node, line.key, line.body
                self._answer(line)
            elif until is None and not self._components.running() and not self._components.close_next():
                raise Ended

    async def pause(self, wait: int) -> None:
        """Let so many nanoseconds pass."""
        await asyncio.sleep(wait / SECOND)

    def _answer(self, line: Line) -> None:
        """Tell which messages a line of a wire answers: those that an earlier life of its program took are lost."""
        handed, answers = self._handed[line.node], self._answers
        closed = self._programs[line.node].closed
        while handed and (line.over or handed[0] < line.life):
            handed.popleft()
            answers.append(Answer(line.node, "silent" if line.over and closed else "failed"))
        if not line.over:
            if handed:
                handed.popleft()
            answers.append(Answer(line.node, "sent", line.key, line.body))
