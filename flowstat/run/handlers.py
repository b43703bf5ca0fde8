"""Behaviours of every kind as what a loop calls: a function that has sent all it sends when it returns."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from types import TracebackType
from typing import Any, Self

from flowstat.run.behaviour import Behaviour, Context, Emit, Handler, Kind, Message
from flowstat.run.loop import check_returned

__all__ = ["Awaiter", "call", "call_async", "handler", "has_loop"]


def handler(behaviour: Behaviour, wait: Callable[[Coroutine[Any, Any, None]], object]) -> Handler:
    """Return what handles a message by a behaviour; `wait` runs a coroutine to its end.

    What a generator yields is sent: an `Emit`, or a body without a key.
    """
    function, kind = behaviour.function, behaviour.kind
    if kind == "plain":
        return function
    if kind == "generator":
        return partial(call, function, kind)

    def awaited(state: Any, message: Message, ctx: Context) -> None:
        wait(call_async(function, kind, state, message, ctx))

    return awaited


def call(function: Any, kind: Kind, state: object, message: Message, ctx: Context) -> None:
    """Call a plain function or a generator, and send what it yields."""
    if kind == "plain":
        found = function(state, message, ctx)
        if found is not None:
            check_returned(found)
        return
    for sent in function(state, message, ctx):
        _send(ctx, sent)


async def call_async(function: Any, kind: Kind, state: object, message: Message, ctx: Context) -> None:
    """Call an `async` function or generator, and send what it yields."""
    if kind == "async":
        await function(state, message, ctx)
        return
    async for sent in function(state, message, ctx):
        _send(ctx, sent)


def _send(ctx: Context, sent: object) -> None:
    if isinstance(sent, Emit):
        ctx.emit(sent.body, sent.key)
    else:
        ctx.emit(sent)


class Awaiter:
    """Runs coroutines to their end, one at a time, in an event loop of its own that starts when it is first needed.

    Where one runs in this thread already (a notebook), ours runs in a thread beside it.
    """

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        elif self._runner is not None:
            self._runner.close()

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine to its end."""
        if self._runner is None and self._loop is None:
            if has_loop():
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_go_on, args=(self._loop,), daemon=True)
                self._thread.start()
            else:
                self._runner = asyncio.Runner()
        if self._runner is not None:
            self._runner.run(coroutine)
        elif self._loop is not None:
            asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


def _go_on(loop: asyncio.AbstractEventLoop) -> None:
    """Run a loop until it is stopped."""
    with asyncio.Runner(loop_factory=lambda: loop):
        loop.run_forever()


def has_loop() -> bool:
    """Whether an event loop runs in this thread: a notebook's, say."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
