"""A worker while it is connected: it takes messages, lets its hand work on them, sends, and acknowledges."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from flowstat.run.amqp_hand import Delivery, Step
from flowstat.run.amqp_link import Link, wire_of
from flowstat.run.amqp_outgoing import Full, Outgoing
from flowstat.run.amqp_reconnect import Lost, is_loss

if TYPE_CHECKING:
    from aio_pika.abc import AbstractIncomingMessage

    from flowstat.run.amqp import Worker

__all__ = ["Session"]

SETTLE = 0.2
"""Seconds that those that send have to notice that their connection is gone."""

POLL = 0.1
"""Seconds between looks at a lock that another process has, and at whether all is idle."""


class Session:
    """A worker while it is connected."""

    def __init__(self, worker: Worker, link: Link) -> None:
        self.worker = worker
        self.link = link
        self.inbox: deque[Delivery] = deque()
        self.came = asyncio.Event()
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.wrong: BaseException | None = None
        self.under_way: set[asyncio.Task[None]] = set()
        self.outgoing = Outgoing(link, worker.stop, worker.say)
        self.consumers: list[Callable[[], Awaitable[object]]] = []
        self.last = 0.0
        self.busy = False

    async def run(self) -> None:
        """Handle messages until the worker is to stop.

        Raises
        ------
        Lost
            If the connection is.
        """
        worker = self.worker
        await self.link.open(worker.prefetch, self._lose)
        await self.link.declare([*worker.nodes, *(a.target for n in worker.nodes for a in worker.graph.outgoing[n])])
        loop = asyncio.get_running_loop()
        self.last = loop.time()
        tasks = [loop.create_task(self._consume(node)) for node in worker.nodes]
        ends = [loop.create_task(part) for part in (self._pump(), self._until_idle(), self._until_told())]
        tasks += ends
        try:
            while not any(task.done() for task in ends):
                await _first([*tasks, self.lost])
                for task in [t for t in tasks if t.done()]:
                    task.result()
                    if task not in ends:
                        tasks.remove(task)
                if self.lost.done():
                    await self._raise_loss()
            await self._finish(ends[0])
        finally:
            for task in (*tasks, *self.under_way):
                task.cancel()
            await asyncio.gather(*tasks, *self.under_way, return_exceptions=True)

    def _lose(self, *told: object) -> None:
        if not self.lost.done():
            self.lost.set_result(next((str(why) for why in told if isinstance(why, BaseException)), ""))
        self.came.set()

    async def _consume(self, node: str) -> None:
        """Take a node's messages; of one with a state when nobody else does, and the state is as they left it."""
        worker = self.worker
        lock = worker.locks.get(node)
        if lock is not None:
            while not lock.take():
                await asyncio.sleep(POLL)
            if node not in worker.restored:
                if not await worker.thread.do(lambda: worker.hand.restore(node, worker.stop.is_set)):
                    return
                worker.restored.add(node)

        async def take(message: AbstractIncomingMessage) -> None:
            count = message.headers.get("x-delivery-count", 0)
            before = max(count if isinstance(count, int) else 0, int(bool(message.redelivered)))
            self.inbox.append(Delivery(node, wire_of(message), before, message))
            self.came.set()

        queue = await self.link.incoming.get_queue(self.link.names.queue(node), ensure=False)
        tag = await queue.consume(take)
        self.consumers.append(lambda: queue.cancel(tag))

    async def _pump(self) -> None:
        """Let the hand work on what has come; it sends and acknowledges while the hand works on what comes next."""
        loop = asyncio.get_running_loop()
        work: deque[Delivery] = deque()
        while True:
            if not work and not self.inbox:
                self.came.clear()
                await self.came.wait()
            if self.lost.done() or self.worker.stop.is_set():
                return
            work.extend(self.inbox)
            self.inbox.clear()
            if work:
                self.busy = True
                step = await self.worker.thread.do(lambda: self.worker.hand.work(work))
                self.busy = bool(work)
                self.last = loop.time()
                task = loop.create_task(self._complete(step))
                self.under_way.add(task)
                task.add_done_callback(self._completed)

    async def _complete(self, step: Step) -> None:
        """Send what a step has to send; then acknowledge what is done."""
        sends = [*map(self.outgoing.send, step.posts), *map(self.outgoing.give_up, step.given_up)]
        try:
            await asyncio.gather(*sends)
        except Full:  # it comes again, to the next worker, which finds it recorded and sends the same
            return
        for delivery in step.deliveries:
            delivery.steps -= 1
            if delivery.done and not delivery.steps:
                await delivery.handle.ack()
        self.last = asyncio.get_running_loop().time()

    def _completed(self, task: asyncio.Task[None]) -> None:
        self.under_way.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            if not is_loss(error):
                self.wrong = error
            self._lose(error)

    async def _raise_loss(self) -> None:
        """Raise what is to be said of a connection, or a channel, that is gone."""
        if self.under_way:  # what closed it may be a mistake, which one of them says
            await asyncio.wait(self.under_way, timeout=SETTLE)
        raise self.wrong or Lost(self.lost.result())

    async def _until_idle(self) -> None:
        idle = self.worker.idle
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(POLL if idle is None else min(POLL, max(idle / 10, 0.01)))
            if self.inbox or self.busy or self.under_way:
                self.last = loop.time()
            elif idle is not None and loop.time() - self.last >= idle:
                return

    async def _until_told(self) -> None:
        await self.worker.stop.wait()

    async def _finish(self, pump: asyncio.Task[None]) -> None:
        """Take no more, and complete what is in hand."""
        self.worker.stop.set()
        for cancel in self.consumers:
            await cancel()
        self.came.set()
        await pump
        while self.under_way:
            await _first([*self.under_way, self.lost])
            if self.lost.done():
                await self._raise_loss()


async def _first(waits: list[asyncio.Future[Any]]) -> None:
    """Wait until one of them is done."""
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
