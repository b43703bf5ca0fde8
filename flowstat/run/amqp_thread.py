"""A thread for what a worker's behaviours do, so that its connection lives while they take their time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

from flowstat.run.handlers import Awaiter, has_loop

__all__ = ["Thread", "run_to_end"]

Found = TypeVar("Found")


def run_to_end(main: Callable[[], Coroutine[Any, Any, Found]], interrupt: Callable[[], object]) -> Found:
    """Return what comes of a coroutine; where an event loop runs already (a notebook), in a thread beside it.

    There Ctrl-C does not reach it: `interrupt` is called in its loop instead, each time.
    """
    if not has_loop():
        return asyncio.run(main())
    done: Future[Found] = Future()
    runner = asyncio.Runner()

    def go_on() -> None:
        try:
            with runner:
                done.set_result(runner.run(main()))
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=go_on, daemon=True).start()
    while True:
        try:
            return done.result()
        except KeyboardInterrupt:
            if done.done():
                raise
            with suppress(RuntimeError):  # it has just ended
                runner.get_loop().call_soon_threadsafe(interrupt)


class Thread:
    """A thread that does one thing after another for an event loop; it does not keep the process alive."""

    def __init__(self) -> None:
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._awaiter = Awaiter()
        self._thread = threading.Thread(target=self._go_on, daemon=True)
        self._thread.start()

    def close(self, wait: bool) -> None:
        """Let it end when it is done; `wait` for that."""
        self._work.put(None)
        if wait:
            self._thread.join()

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine to its end; in this thread."""
        self._awaiter.run(coroutine)

    def do(self, work: Callable[[], Found]) -> asyncio.Future[Found]:
        """Return what comes of some work."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Found] = loop.create_future()

        def tell(result: Found | None, error: BaseException | None) -> None:
            if future.cancelled():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]

        def run() -> None:
            found: Found | None = None
            raised: BaseException | None = None
            try:
                found = work()
            except BaseException as error:
                raised = error
            with suppress(RuntimeError):  # nobody waits any more
                loop.call_soon_threadsafe(tell, found, raised)

        self._work.put(run)
        return future

    def _go_on(self) -> None:
        with self._awaiter:
            while (work := self._work.get()) is not None:
                work()
