"""What a timed loop knows of the world: what time it is, and which message comes next from outside."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple, Protocol

from flowstat.errors import RunError
from flowstat.run.inject import pulling
from flowstat.run.loop import Injection
from flowstat.run.moments import LAST, SECOND
from flowstat.run.network import Clock, Delay

__all__ = ["Answer", "EndOfTime", "Ended", "Feed", "MakeFeed", "VirtualFeed", "WallFeed"]


class Ended(Exception):
    """Nothing more comes from outside, and no timer is set."""


class EndOfTime(Ended):
    """What comes next comes later than a trace can keep."""


class Answer(NamedTuple):
    """What became of the oldest message that a node's program has taken: it sent something on, nothing, or failed."""

    node: str
    what: Literal["sent", "silent", "failed"]
    key: str = ""
    body: object = None


class Feed(Protocol):
    """Time, messages from outside, and answers of programs.

    `turn` is the number of messages that were handled so far: with it a journal notes what came when. `crowd` is how
    many messages wait.
    """

    def now(self) -> int:
        """Return the time, in nanoseconds since 1970."""

    def due(self, until: int | None, turn: int, crowd: int) -> bool:
        """Whether there is something to take, before the next message is handled: a message, or the time `until`."""

    def take(self, until: int | None, turn: int) -> Injection | Answer | None:
        """Wait for the next message or answer, or for a time; return None when the time has come first.

        Raises
        ------
        Ended
            If nothing more comes and `until` is None.
        """

    async def pause(self, wait: int) -> None:
        """Let so many nanoseconds pass."""


MakeFeed = Callable[[int, int | None], Feed]
"""Makes a feed that goes on after so many messages from outside were taken, at a time (None: at its beginning)."""


class VirtualFeed:
    """Virtual time: it jumps to what comes next."""

    def __init__(self, injections: Iterable[Injection], start: int = 0, gap: Delay | None = None) -> None:
        self._injections = iter(injections)
        self._now = self._arrival = start
        self._gap = gap
        self._next = self._pull() if gap else None

    def go_on(self, taken: int, now: int) -> None:
        """Go on where so many messages were taken, and time has come to `now`: the injections are those after them."""
        self._now = now
        for _ in range(taken if self._gap else 0):
            assert self._gap is not None
            self._arrival += self._gap()

    def now(self) -> int:
        """Return the time, in nanoseconds since 1970."""
        return self._now

    def due(self, until: int | None, turn: int, crowd: int) -> bool:
        """Whether a message or a time is due."""
        return (until is not None and until <= self._now) or (self._next is not None and self._arrival <= self._now)

    def take(self, until: int | None, turn: int) -> Injection | None:
        """Jump to the next message or time."""
        if self._gap is None and until is None:
            found = self._pull()
            if found is None:
                raise Ended
            return found
        if self._next is not None and (until is None or self._arrival <= until):
            if self._arrival > LAST:
                raise EndOfTime
            found, self._next = self._next, self._pull()
            self._now = max(self._now, self._arrival)
            assert self._gap is not None
            self._arrival += self._gap()
            return found
        if until is None:
            raise Ended
        self._now = max(self._now, until)
        return None

    async def pause(self, wait: int) -> None:
        """Let so many nanoseconds pass."""
        if self._now + wait > LAST:
            raise RunError("a time to wait ends after the year 2262, and a trace keeps no time later")
        self._now += wait

    def _pull(self) -> Injection | None:
        return next(self._injections, None)


class WallFeed:
    """Real time: the next message is there at once, and so are all that follow; but those of a `Stream` when they come.

    A message that others wait for keeps timers waiting, too, unless it is one of a stream.
    """

    def __init__(self, injections: Iterable[Injection], clock: Clock, sleep: Callable[[float], object]) -> None:
        self._pull = pulling(injections)
        self._more = True
        self._sleep = sleep
        self.now = clock

    def due(self, until: int | None, turn: int, crowd: int) -> bool:
        """Whether a time has come: messages are not taken before there is nothing else to do."""
        return until is not None and until <= self.now()

    def take(self, until: int | None, turn: int) -> Injection | None:
        """Return the next message at once, or wait for a time."""
        if until is None or until > self.now():
            left = None if until is None else max(0, until - self.now()) / SECOND
            if self._more:
                try:
                    return self._pull(left)
                except StopIteration:
                    self._more = False
            if left is None:
                raise Ended
            self._sleep(left)
        return None

    async def pause(self, wait: int) -> None:
        """Let so many nanoseconds pass."""
        await asyncio.sleep(wait / SECOND)
