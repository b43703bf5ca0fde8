"""The loop that handles many messages at a time: asyncio, and a pool for plain functions.

A node with a state handles one message at a time, in the order in which they come, so that its behaviour needs no lock;
a node without one handles as many as there are. In real time the order of events is that of the world: only a run in
virtual time is the same again.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor
from hashlib import blake2b
from typing import Any, NamedTuple

from flowstat.errors import RunError
from flowstat.read.words import shown
from flowstat.run.behaviour import Behaviour, Message
from flowstat.run.event import EventContext, behave
from flowstat.run.handlers import has_loop
from flowstat.run.inject import Stream, pulling
from flowstat.run.loop import Injection, Limits, Loop, Progress, Waiting
from flowstat.run.moments import LAST, SECOND
from flowstat.run.network import Clock, Delay, Hop, Network, Route
from flowstat.run.pool import Together
from flowstat.run.record import Recorder
from flowstat.run.virtual_loop import VirtualLoop

__all__ = ["ContemporaneousLoop"]


LOOK = 0.005
"""Seconds between two looks at a stream of messages."""


class _Flying(NamedTuple):
    """A message: its hop, its sender's span id, its body, sent when, its run, and what its chance hangs on."""

    hop: Hop
    parent: int
    body: object
    sent_at: int | None
    run: int
    mark: bytes


class ContemporaneousLoop(Loop):
    """Handles messages as soon as they are there, many at a time."""

    def __init__(
        self,
        network: Network,
        behaviours: dict[str, Behaviour],
        injections: Iterable[Injection],
        recorder: Recorder | None,
        limits: Limits,
        progress: Progress | None,
        *,
        seed: int,
        together: Together,
        clock: Clock | None,
        virtual: VirtualLoop | None = None,
        gap: Delay | None = None,
        pool: Executor | None = None,
    ) -> None:
        super().__init__(network, recorder, limits, progress)
        self._behaviours = behaviours
        self._pull = pulling(injections)
        self._is_stream = isinstance(injections, Stream) and virtual is None
        self._seed = seed
        self._together = together
        self._clock = clock
        self._virtual = virtual
        self._gap = gap
        self._pool = pool
        self._flying: dict[int, _Flying] = {}
        self._set = self._active = 0
        self._open: dict[int, int] = {}
        self._mark = b""
        self._children = 0
        self._mailboxes: dict[str, asyncio.Queue[int]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stateless: asyncio.Semaphore
        self._change: asyncio.Event
        self._room: asyncio.Future[None] | None = None
        self._error: BaseException | None = None
        self._closing = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self) -> None:
        """Handle messages until there are none, or the loop is stopped."""
        if not has_loop():
            self._go()
            return
        # A notebook has a loop in this thread: ours takes another.
        thread = threading.Thread(target=self._go)
        thread.start()
        thread.join()
        if self._error is not None:
            raise self._error

    def stop(self, why: str) -> None:
        """End before the next event, which the main task has to see."""
        super().stop(why)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._change.set)

    def waiting(self) -> Iterator[Waiting]:
        """Return the messages that are not handled yet, in the order they were sent."""
        for _, message in sorted(self._flying.items()):
            yield message.hop, message.parent, message.sent_at, message.run

    def put(self, hop: Hop, span: int, body: object, now: int | None, wait: int, run: int) -> None:
        """Send a message on its way."""
        self._children += 1
        mark = blake2b(self._children.to_bytes(8, "big"), key=self._mark[:64], digest_size=16).digest()
        if hop.delay:
            wait += hop.delay()
        self._set += 1
        number = self._set
        self._flying[number] = _Flying(hop, span, body, now, run, mark)
        self._open[run] = self._open.get(run, 0) + 1
        self.crowded(len(self._flying))
        if wait:
            if (now or 0) + wait > LAST:
                self.out_of_time()
            self._start(self._later(number, wait / SECOND))
        else:
            self._deliver(number)

    def _go(self) -> None:
        virtual = self._virtual
        try:
            with asyncio.Runner(loop_factory=None if virtual is None else lambda: virtual) as runner:
                runner.run(self._main())
        except asyncio.CancelledError:
            self._error = RunError("a behaviour cancelled tasks of the run itself: cancel only those that it started")
            raise self._error from None
        except BaseException as error:
            self._error = error
            raise

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._change = asyncio.Event()
        self._stateless = asyncio.Semaphore(self._together.at_once)
        arrivals = asyncio.create_task(self._inject())
        try:
            while not self.stopped and self._error is None and not (arrivals.done() and not self._open):
                self._change.clear()
                await self._change.wait()
        finally:
            self._closing = True
            tasks = [arrivals, *self._tasks]
            for task in tasks:
                task.cancel()
            found = await asyncio.gather(*tasks, return_exceptions=True)
        if self._error is not None:
            raise self._error
        for error in found:
            if isinstance(error, Exception):
                raise error

    async def _inject(self) -> None:
        """Take injections as long as there is room for a run; in virtual time, when they are due."""
        try:
            while True:
                self.pulling = True
                try:
                    injection = self._pull(0 if self._is_stream else None)
                except StopIteration:
                    return
                self.pulling = False
                if injection is None:
                    await asyncio.sleep(LOOK)
                    continue
                while len(self._open) >= self._together.at_once:
                    self._room = asyncio.get_running_loop().create_future()
                    await self._room
                hop, body = self.network.injection(injection)
                self.runs += 1
                self._mark, self._children = blake2b(f"{self._seed} {self.runs}".encode(), digest_size=16).digest(), 0
                self.put(hop, 0, body, self._now(), 0, self.runs)
                # Without this, injections that are all there at once would keep everything else from being done.
                await asyncio.sleep(self._gap() / SECOND if self._gap else 0)
        finally:
            self.pulling = False
            self._change.set()

    async def _later(self, number: int, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._deliver(number)

    def _deliver(self, number: int) -> None:
        """Hand a message to its node."""
        node = self._flying[number].hop.node
        behaviour = self._behaviours.get(node.name)
        if behaviour is None or behaviour.state is None:
            self._start(self._alone(number))
            return
        mailbox = self._mailboxes.get(node.name)
        if mailbox is None:
            mailbox = self._mailboxes[node.name] = asyncio.Queue()
            self._start(self._one_by_one(mailbox))
        mailbox.put_nowait(number)

    def _start(self, coroutine: Any) -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None and self._error is None:
            self._error = task.exception()
            self._change.set()

    async def _alone(self, number: int) -> None:
        async with self._stateless:
            await self._handle(number)

    async def _one_by_one(self, mailbox: asyncio.Queue[int]) -> None:
        while True:
            await self._handle(await mailbox.get())

    async def _handle(self, number: int) -> None:
        if self.stopped or (self.span >= self.checkpoint and self.stops_at(self.span)):
            self._change.set()
            return
        if self.span - self.lost + self._active >= self.limits.max_events:
            return  # those that are under way are the last
        self._active += 1
        flying = self._flying[number]
        node, started = flying.hop.node, self._now()
        context = EventContext(node.name, flying.mark, self._clock, self.network.most_emits(node.name))
        message = Message(node.name, flying.hop.key, flying.body, flying.run)  # type: ignore[arg-type]
        error: BaseException | None = None
        try:
            context.sent = await behave(
                node, self._behaviours.get(node.name), message, context, self.network, self._pool
            )
        except KeyboardInterrupt:
            self.broken_off = True
            raise
        except BrokenExecutor:
            raise RunError(
                f"a process of the pool was ended while {shown(node.name)} or another node handled a message: the run "
                "can't go on without it"
            ) from None
        except BaseException as found:
            if isinstance(found, asyncio.CancelledError) and (self._closing or self.stopped):
                raise
            error = found
        finally:
            context.over = True
        self._done(number, context, started, error)

    def _done(self, number: int, context: EventContext, started: int | None, error: BaseException | None) -> None:
        """Send what an event emitted, or see to its error, and note its row."""
        hop, parent, body, sent_at, run, mark = self._flying[number]
        node, span, ended = hop.node, self.span + 1, self._now()
        self._mark, self._children = mark, 0
        lost, sent = None, 0
        if error is not None:
            sent, lost = self.fail(error, hop, body, span, ended, run)
        elif context.sent:
            outbox: list[tuple[Route, object]] = []
            for sent_body, key, wait in context.sent:
                outbox.append((self.network.routed(node, key).later(wait), sent_body))
            sent, lost = self.scatter(outbox, span, ended, run)
        del self._flying[number]
        self._active -= 1
        self.span = span
        if self.recorder:
            self.recorder.note(hop.code, parent, sent, run, sent_at, started, ended)
        if lost:
            self.span = self.drop(node.name, lost, span, ended, run)
        if not self._active and self.span - self.lost >= self.limits.max_events and self.stops_at(self.span):
            self._change.set()
        self._open[run] -= 1
        if not self._open[run]:
            del self._open[run]
            if self._room is not None and not self._room.done():
                self._room.set_result(None)
            if not self._open:
                self._change.set()

    def _now(self) -> int | None:
        return None if self._clock is None else self._clock()
