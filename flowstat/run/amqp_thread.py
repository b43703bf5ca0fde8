"""A thread for what a worker's behaviours do, so that its connection lives while they take their time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

from flowstat.run.handlers import Awaiter

__all__ = ["Thread"]

Found = TypeVar("Found")


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
