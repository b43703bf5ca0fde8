"""One event among many at a time: its own context, and its behaviour called here or in another process."""

from __future__ import annotations

import asyncio
import pickle
from concurrent.futures import Executor, ProcessPoolExecutor
from random import Random
from typing import Any

from flowstat.run.behaviour import Behaviour, Kind, Message
from flowstat.run.handlers import call, call_async
from flowstat.run.loop import late
from flowstat.run.moments import SECOND, nanoseconds
from flowstat.run.network import Clock, Flood, Network, Node

__all__ = ["ELSEWHERE", "EventContext", "behave"]


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
            raise Flood.of(self.node, self.limit)
        self.sent.append((body, key, wait))


ELSEWHERE: dict[str, Behaviour] = {}
"""The behaviours that the processes of a pool find: set before they are forked."""


def call_elsewhere(
    node: str, kind: Kind, state: object, message: Message, mark: bytes, now: int | None, limit: int
) -> tuple[object, list[tuple[object, str, int]]]:
    """Let a behaviour handle a message in a process of the pool; return its state and what it sends."""
    context = EventContext(node, mark, None if now is None else (lambda: now), limit)
    try:
        call_aside(ELSEWHERE[node].function, kind, state, message, context)
    except BaseException as error:
        raise _portable(error) from error.__cause__
    return state, context.sent


def call_aside(function: Any, kind: Kind, state: object, message: Message, ctx: EventContext) -> None:
    """Let a behaviour handle a message in a thread or process of a pool."""
    try:
        call(function, kind, state, message, ctx)
    except (StopIteration, GeneratorExit, asyncio.CancelledError) as error:
        # They would end who waits for the future. As in a generator, they are no end of anything.
        raise RuntimeError(f"the behaviour raised {type(error).__name__}") from error


async def behave(
    node: Node,
    behaviour: Behaviour | None,
    message: Message,
    context: EventContext,
    network: Network,
    pool: Executor | None,
) -> list[tuple[object, str, int]]:
    """Let a node's behaviour handle a message, in the pool if there is one; return what it sends."""
    if behaviour is None:
        if network.graph.outgoing[node.name]:
            context.emit(message.body, message.key)
        return context.sent
    function: Any = behaviour.function
    kind = behaviour.kind
    if kind in ("async", "async generator"):
        await call_async(function, kind, node.state, message, context)
    elif pool is None:
        call_aside(function, kind, node.state, message, context)
    elif isinstance(pool, ProcessPoolExecutor):
        loop = asyncio.get_running_loop()
        node.state, context.sent = await loop.run_in_executor(
            pool, call_elsewhere, node.name, kind, node.state, message, context.mark, context.now, context.limit
        )
    else:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(pool, call_aside, function, kind, node.state, message, context)
    return context.sent


def _portable(error: BaseException) -> BaseException:
    """Return an exception that gets to another process: one that does not come back would break the pool."""
    try:
        if type(pickle.loads(pickle.dumps(error))) is type(error):
            return error
    except Exception:
        pass
    return RuntimeError(f"{type(error).__name__}: {error}").with_traceback(error.__traceback__)
