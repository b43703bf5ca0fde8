"""Messages from outside, sent to a graph's nodes through a broker."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from hashlib import blake2b
from queue import Empty, Queue
from time import time_ns
from typing import TYPE_CHECKING, Any

import msgspec

from flowstat.errors import RunError
from flowstat.read.words import shown
from flowstat.run.amqp_core import Core
from flowstat.run.amqp_link import Link, Post
from flowstat.run.amqp_names import LONGEST_KEY, Names
from flowstat.run.amqp_outgoing import Outgoing
from flowstat.run.amqp_reconnect import reconnecting, say_so
from flowstat.run.amqp_result import WorkResult
from flowstat.run.amqp_thread import Thread, run_to_end
from flowstat.run.amqp_wire import VERSION, Letter, Parcel, in_parcels, pack
from flowstat.run.behaviour import unknown_node
from flowstat.run.loop import Injection

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection

    from flowstat.run.app import App

__all__ = ["inject"]

IN_FLIGHT = 256
"""Bodies that are sent and not confirmed."""


def inject(
    app: App,
    broker: str,
    injections: Iterable[Injection],
    *,
    graph: str = "app",
    batch: int = 256,
    say: Callable[[str], object] | None = None,
) -> WorkResult:
    """Send messages to nodes; it returns when the broker has them all.

    Each starts a run. If the connection is lost, what was not confirmed is sent again with the same ids: the workers
    handle it once.

    Parameters
    ----------
    app
        The graph and its behaviours, as the workers have them.
    broker, graph, batch, say
        As for `work`.
    injections
        Messages `(node, key, body)`.

    Raises
    ------
    RunError
        If aio-pika is not installed, there is no broker at the start, or an injection is no message for a node; those
        before it are sent then.
    """
    injector = _Injector(app, broker, injections, Names(graph), batch, say or say_so)
    try:
        return run_to_end(injector.run, injector.end)
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


class _Injector:
    """Sends messages; `open` are those that are not confirmed, by number, `ready` those that are not sent yet."""

    def __init__(
        self,
        app: App,
        broker: str,
        injections: Iterable[Injection],
        names: Names,
        batch: int,
        say: Callable[[str], object],
    ) -> None:
        self.app = app
        self.broker = broker
        self.names = names
        self.batch = batch
        self.say = say
        self.sent = self.number = self.taken = 0
        self.session = os.urandom(16)
        self.open: dict[int, Post] = {}
        self.ready: deque[Post] = deque()
        self.wrong: BaseException | None = None
        self.source = _Source(injections, 16 * batch)
        self.taking: asyncio.Future[list[Injection] | None] | None = None
        self.main: asyncio.Task[Any] | None = None

    def end(self) -> None:
        """End it at once; from its event loop."""
        if self.main is not None:
            self.main.cancel()

    async def run(self) -> WorkResult:
        self.thread = Thread()
        self.main = asyncio.current_task()
        self.never = asyncio.Event()
        try:
            await reconnecting(self.broker, self._serve, self.never, self.say)
        finally:
            self.thread.close(wait=False)
        if self.wrong:
            raise self.wrong
        return WorkResult(worker="", injected=self.sent)

    async def _serve(self, connection: AbstractConnection) -> None:
        app = self.app
        core = Core(app.graph, app.behaviours, app.seed, lambda coroutine: None)
        link = Link(connection, app.graph, self.names, filter(core.has_state, app.graph.nodes), self.batch == 1)
        await link.open(1)
        outgoing = Outgoing(link, self.never, self.say)
        places = asyncio.Semaphore(IN_FLIGHT)
        tasks: set[asyncio.Task[None]] = set()

        async def send(number: int, post: Post) -> None:
            try:
                await outgoing.send(post)
                self.open.pop(number, None)
                self.sent += len(post.parcel.letters)
            finally:
                places.release()

        async def begin(number: int, post: Post) -> None:
            assert post.only is not None
            await link.declare([post.only])
            await places.acquire()
            _settle(tasks)
            tasks.add(asyncio.create_task(send(number, post)))

        try:
            for number, post in sorted(self.open.items()):
                parcel = Parcel(VERSION, None, post.parcel.key, True, post.parcel.letters)
                await begin(number, post._replace(parcel=parcel))
            while self.ready or await self._take(tasks):
                self.number += 1
                self.open[self.number] = self.ready.popleft()
                await begin(self.number, self.open[self.number])
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _take(self, tasks: set[asyncio.Task[None]]) -> bool:
        """Make ready what has come meanwhile, that of one node and key together; return whether there is something.

        It raises what one of the tasks has raised: while nothing comes, a lost connection is made again too.
        """
        while not self.ready and self.wrong is None:
            if self.taking is None:
                self.taking = self.thread.do(self.source.take)
            while not self.taking.done():
                waits: list[asyncio.Future[Any]] = [self.taking, *tasks]
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                _settle(tasks)
            some, self.taking = self.taking.result(), None
            if some is None:
                self.wrong = self.source.error
                return False
            groups: dict[tuple[str, str], list[Letter]] = {}
            for injection in some:
                try:
                    node, key, packed = self._checked(injection)
                except RunError as error:
                    self.wrong = error
                    break
                made = blake2b(self.session + self.taken.to_bytes(8), digest_size=32).hexdigest()
                self.taken += 1
                groups.setdefault((node, key), []).append(Letter(made[:32], made[32:], None, 0, time_ns(), packed))
            for (node, key), letters in groups.items():
                for parcel in in_parcels(None, key, False, letters, self.batch):
                    self.ready.append(Post(parcel, node, only=node))
        return bool(self.ready)

    def _checked(self, injection: Injection) -> tuple[str, str, msgspec.Raw]:
        try:
            node, key, body = injection
        except (TypeError, ValueError):
            raise RunError(f"an injection is (node, key, body), not {shown(repr(injection))}") from None
        if not isinstance(node, str) or node not in self.app.graph.outgoing:
            raise RunError(f"can't inject a message: {unknown_node(node, self.app.graph)}")
        try:
            if not isinstance(key, str) or len(key.encode()) > LONGEST_KEY:
                raise ValueError(f"a topic key is a text of at most {LONGEST_KEY} bytes")
            return node, key, pack(body)
        except (TypeError, ValueError, OverflowError) as error:
            raise RunError(f"can't inject {shown(repr(injection))}: {error}") from None


def _settle(tasks: set[asyncio.Task[None]]) -> None:
    """Take the tasks away that are done; raise what one of them has raised."""
    for task in [t for t in tasks if t.done()]:
        tasks.discard(task)
        task.result()


class _Source:
    """Injections, read in a thread of their own: the connection lives while they are waited for."""

    def __init__(self, injections: Iterable[Injection], most: int) -> None:
        self._injections = injections
        self._most = most
        self._queue: Queue[Injection | None] = Queue(2 * most)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self.error: BaseException | None = None

    def take(self) -> list[Injection] | None:
        """Wait for the next injection, and return it with those that are there too; None at the end."""
        if self._thread.ident is None:
            self._thread.start()
        first = self._queue.get()
        if first is None:
            return None
        some = [first]
        with suppress(Empty):
            while len(some) < self._most and (more := self._queue.get_nowait()) is not None:
                some.append(more)
            if len(some) < self._most:
                self._queue.put(None)  # for the next time
        return some

    def _read(self) -> None:
        try:
            for injection in self._injections:
                self._queue.put(injection)
        except BaseException as error:  # also of a generator that exits
            self.error = error
        self._queue.put(None)
