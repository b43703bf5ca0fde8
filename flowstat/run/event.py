"""One event among many at a time: its own context, and its behaviour called here or in another process."""

from __future__ import annotations

import asyncio
from random import Random

from flowstat.errors import RunError
from flowstat.run.behaviour import Behaviour, Kind, Message
from flowstat.run.handlers import call
from flowstat.run.loop import late
from flowstat.run.network import SECOND, Clock, nanoseconds

__all__ = ["ELSEWHERE", "EventContext", "call_elsewhere"]


class EventContext:
    """The `Context` of one event; what it sends is in `sent`: (body, key, nanoseconds to wait)."""

    def __init__(self, node: str, mark: bytes, clock: Clock | None, limit: int) -> None:
        self.node = node
        self.sent: list[tuple[object, str, int]] = []
        self.over = False
        self.mark = mark
        self._clock = clock
        self.limit = limit
        self._random: Random | None = None

    @property
    def random(self) -> Random:
        """Chance of this event's own: the same for the same message, whatever goes on beside it."""
        if self._random is None:
            self._random = Random(self.mark)
        return self._random

    @property
    def now(self) -> int | None:
        """Nanoseconds since 1970 by the run's clock, or None in a run without a clock."""
        return None if self._clock is None else self._clock()

    def emit(self, body: object = None, key: str = "") -> None:
        """Send a message once the behaviour returns."""
        self._send(body, key, 0)

    def after(self, seconds: float, key: str = "", body: object = None) -> None:
        """Send a message so many seconds after the behaviour returns."""
        self._send(body, key, nanoseconds(seconds))

    async def sleep(self, seconds: float) -> None:
        """Let time pass, and other events go on."""
        await asyncio.sleep(nanoseconds(seconds) / SECOND)

    def _send(self, body: object, key: str, wait: int) -> None:
        if self.over:
            raise late(self.node)
        if len(self.sent) >= self.limit:
            raise RunError(f"one event of {self.node} emitted more than {self.limit:,} messages")
        self.sent.append((body, key, wait))


ELSEWHERE: dict[str, Behaviour] = {}
"""The behaviours that the processes of a pool find: set before they are forked."""


def call_elsewhere(
    node: str, kind: Kind, state: object, message: Message, mark: bytes, now: int | None, limit: int
) -> tuple[object, list[tuple[object, str, int]]]:
    """Let a behaviour handle a message in a process of the pool; return its state and what it sends."""
    context = EventContext(node, mark, None if now is None else (lambda: now), limit)
    call(ELSEWHERE[node].function, kind, state, message, context)
    return state, context.sent
