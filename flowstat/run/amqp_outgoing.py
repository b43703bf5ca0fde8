"""Sending through a broker so that nothing is lost: until it is confirmed, however often a queue has no room for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from flowstat.errors import RunError
from flowstat.read.words import shown
from flowstat.run.amqp_link import Link, Post
from flowstat.run.amqp_wire import Wire, write

if TYPE_CHECKING:
    from aio_pika.abc import AbstractExchange

__all__ = ["Full", "GivenUp", "Outgoing"]

IN_FLIGHT = 256
"""Bodies that are sent and not confirmed."""

WAIT = (0.05, 2.0)
"""Seconds to wait before a message is sent again that a broker has refused, as its queue is full: first, at most."""

SAID_AT = 0.4
"""The wait at which that is said."""

RETURNS = 5
"""How often a message may come back, as no queue takes it, though all were declared anew."""

REASON = 1000
"""Characters of a reason: headers have to fit into a frame."""


class Full(Exception):
    """A queue had no room until the worker was to end: what it did not take is sent by the next worker."""


class GivenUp(NamedTuple):
    """An AMQP message that goes to the dead letters: at which node it was given up, and why."""

    node: str
    wire: Wire
    why: str


class _Way(NamedTuple):
    """Where a message is published, what declares that anew, and how it is called."""

    place: Callable[[], Awaitable[AbstractExchange]]
    anew: Callable[[], Awaitable[None]]
    what: str


class Outgoing:
    """What sends by a link.

    Parameters
    ----------
    stop
        Set when the worker is to end: from then on nothing waits for a queue to have room.
    say
        Told, once for each way, that a queue is full.
    """

    def __init__(self, link: Link, stop: asyncio.Event, say: Callable[[str], object]) -> None:
        self._link = link
        self._stop = stop
        self._say = say
        self._places = asyncio.Semaphore(IN_FLIGHT)
        self._said: set[str] = set()

    async def send(self, post: Post) -> None:
        """Send messages, and wait until the broker has them on its disks; as often as a queue is full.

        Where one of several queues is full, the broker does not say which one: from then on each is sent to by itself,
        so that those with room get the messages a second time only.

        Raises
        ------
        RunError
            If no queue takes them.
        Full
            If a queue is full, and the worker is to end.
        aiormq.exceptions.AMQPError, OSError, RuntimeError
            If the connection is lost: whether they were sent is not known then.
        """
        link = self._link
        posts = [post]
        if post.only is None and not post.wait:
            if await self._is_taken(self._message(write(post.parcel, link.single)), post.parcel.key, self._way(post)):
                return
            parcel = msgspec.structs.replace(post.parcel, again=True)
            posts = [Post(parcel, post.node, only=node) for node in link.targets(post.node, parcel.key)]
        await asyncio.gather(
            *(self._until_taken(p.parcel.key, write(p.parcel, link.single), self._way(p)) for p in posts)
        )

    async def give_up(self, given: GivenUp) -> None:
        """Send a message to where those go that nobody handles, with the reason; raises as `send` does."""
        link, wire = self._link, given.wire
        told = {"flowstat-node": given.node, "flowstat-reason": given.why[:REASON]}
        headers = {n: v for n, v in wire.headers.items() if n == "traceparent" or n.startswith("flowstat-")}
        way = _Way(lambda: link.at(link.names.dead), link.declare_dead, "the queue of the dead letters")
        await self._until_taken(wire.key, wire._replace(headers=headers | told), way)

    def _way(self, post: Post) -> _Way:
        link, node, key = self._link, post.node, post.parcel.key
        if post.only is not None:
            only = post.only
            return _Way(
                lambda: link.at(link.names.entry(only)),
                lambda: link.declare_anew([only]),
                f"the queue of {shown(only)}",
            )
        what = f"a queue for what {shown(node)} sends with " + (f"the key {shown(key)}" if key else "no key")
        if post.wait:
            return _Way(lambda: link.timer(node, post.wait), lambda: link.declare_anew([]), f"{what}, later")
        return _Way(lambda: link.at(link.names.emitted(node)), lambda: link.declare_anew(link.targets(node, key)), what)

    async def _until_taken(self, key: str, wire: Wire, way: _Way) -> None:
        made = self._message(wire)
        wait = WAIT[0]
        while not await self._is_taken(made, key, way):
            if wait >= SAID_AT and way.what not in self._said:
                self._said.add(way.what)
                self._say(f"{way.what} is full: what is sent there waits until it has room")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), wait)
                raise Full
            wait = min(2 * wait, WAIT[1])

    async def _is_taken(self, made: Any, key: str, way: _Way) -> bool:
        """Publish a message; return whether all queues on its way took it."""
        from aio_pika.exceptions import DeliveryError, PublishError

        for _ in range(RETURNS):
            try:
                async with self._places:  # not while it waits for room: others have to get through
                    await (await way.place()).publish(made, key, mandatory=True)
                return True
            except PublishError:
                await way.anew()
            except DeliveryError:
                return False
        raise RunError(
            f"the broker has nothing that takes messages for {way.what}, though it was declared: does something there "
            "remove queues or bindings?"
        )

    @staticmethod
    def _message(wire: Wire) -> Any:
        from aio_pika import DeliveryMode, Message

        return Message(
            wire.body,
            headers=dict(wire.headers),
            content_type=wire.content_type,
            content_encoding=wire.content_encoding,
            message_id=wire.message_id,
            delivery_mode=DeliveryMode.PERSISTENT,
        )
