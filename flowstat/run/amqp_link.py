"""The connection to a broker, and what is declared there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from flowstat.errors import RunError
from flowstat.read.graph import Arrow, Graph
from flowstat.read.topics import matches
from flowstat.read.words import shown
from flowstat.run.amqp_names import LONGEST_KEY, Names
from flowstat.run.amqp_wire import Parcel, Wire

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange, AbstractIncomingMessage

__all__ = ["BROKER_LIMIT", "Link", "Post", "connect", "wire_of"]

BROKER_LIMIT = 100
"""Deliveries after which the broker itself gives a message up; workers do so long before, or send it anew."""

RENEW = 300.0
"""Seconds after which a timer's queue is declared again."""

UNUSED = 7 * 86_400.0
"""Seconds, beside those that it keeps a message, after which the broker removes a timer's queue that was not declared
again. With it go messages that the queue they are for had no room for in all that time."""


async def connect(url: str, timeout: float = 20.0) -> AbstractConnection:
    """Connect to a broker.

    Raises
    ------
    RunError
        If aio-pika is not installed, or the URL is none.
    OSError
        If there is no broker, or it refuses.
    """
    try:
        import aio_pika
        from aiormq.exceptions import AMQPError
    except ImportError:
        raise RunError("a broker needs aio-pika: pip install 'flowstat[amqp]'") from None
    # What it says of lost connections, we say; a program that logs still gets it.
    for name in ("aio_pika", "aiormq"):
        logging.getLogger(name).addHandler(logging.NullHandler())
    if not url.startswith(("amqp://", "amqps://")):
        raise RunError("a broker's URL is amqp://user:password@host:5672/vhost, or amqps://")
    connection = None
    try:
        connection = aio_pika.Connection(aio_pika.connection.make_url(url))
        await connection.connect(timeout=timeout)
        return connection
    except BaseException as error:
        if connection is not None:
            await connection.close()
        if isinstance(error, TimeoutError):
            raise OSError(f"no answer in {timeout:g} seconds") from None
        if isinstance(error, (ValueError, TypeError)):
            raise RunError(f"that is no broker's URL: {error}") from None
        if isinstance(error, AMQPError) and not isinstance(error, OSError):
            raise OSError(str(error) or type(error).__name__) from error
        raise


def wire_of(message: AbstractIncomingMessage) -> Wire:
    """Return what a delivered message is made of."""
    return Wire(
        message.body,
        message.content_type,
        message.message_id,
        message.headers,
        message.routing_key or "",
        message.content_encoding,
    )


class Post(NamedTuple):
    """What is sent: along the arrows of `node`, after `wait` milliseconds; or, with `only`, to that node alone."""

    parcel: Parcel
    node: str
    wait: int = 0
    only: str | None = None


class Link:
    """Two channels of a connection: one to take messages from, one to send them by.

    Parameters
    ----------
    states
        The nodes that have a state.
    single
        Whether each message is sent by itself, as other programs do.
    """

    def __init__(
        self, connection: AbstractConnection, graph: Graph, names: Names, states: Iterable[str], single: bool
    ) -> None:
        self.names = names
        self._connection = connection
        self.single = single
        self._graph = graph
        self._states = frozenset(states)
        self._into: dict[str, list[Arrow]] = {}
        for arrow in graph.arrows:
            self._into.setdefault(arrow.target, []).append(arrow)
        self._exchanges: dict[str, AbstractExchange] = {}
        self._declared: set[str] = set()
        self._timers: dict[str, float] = {}
        self.incoming: AbstractChannel
        self.outgoing: AbstractChannel

    async def open(self, prefetch: int, lost: Callable[..., object] = lambda *_: None) -> None:
        """Open the channels; `lost` is called when one is closed, or a queue that is consumed from is removed."""
        self.incoming = await self._connection.channel(publisher_confirms=False)
        await self.incoming.set_qos(prefetch_count=prefetch)
        self.outgoing = await self._connection.channel(publisher_confirms=True, on_return_raises=True)
        self._connection.close_callbacks.add(lost)
        for channel in (self.incoming, self.outgoing):
            channel.close_callbacks.add(lost)
        (await self.incoming.get_underlay_channel()).on_consumer_cancel_callbacks.add(lost)

    async def declare(self, nodes: Iterable[str]) -> None:
        """Declare the queues of nodes, and all that leads to them.

        Raises
        ------
        RunError
            If they are there already and are other ones, or a key is too long.
        """
        wanted = [node for node in dict.fromkeys(nodes) if node not in self._declared]
        if not wanted:
            return
        await self.declare_dead()
        with _as_it_was():
            for node in wanted:
                await self._declare(node, self.outgoing)

    async def declare_anew(self, nodes: Iterable[str]) -> None:
        """Declare the queues of nodes once more, and timers when they are next used: something was removed."""
        self._declared.clear()
        self._timers.clear()
        await self.declare(nodes)

    async def declare_dead(self) -> None:
        """Declare the queue of the messages that were given up."""
        from aio_pika import ExchangeType

        # Looked at again and again: the limit that brokers set by themselves would end its messages.
        arguments: dict[str, Any] = {"x-queue-type": "quorum", "x-delivery-limit": 2**31 - 1}
        with _as_it_was():
            dead = await self.outgoing.declare_exchange(self.names.dead, ExchangeType.TOPIC, durable=True)
            queue = await self.outgoing.declare_queue(self.names.dead, durable=True, arguments=arguments)
            await queue.bind(dead, "#")

    async def _declare(self, node: str, channel: AbstractChannel) -> None:
        from aio_pika import ExchangeType

        arguments: dict[str, Any] = {
            "x-queue-type": "quorum",
            "x-delivery-limit": BROKER_LIMIT,
            "x-dead-letter-exchange": self.names.dead,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }
        if node in self._states:
            arguments["x-single-active-consumer"] = True
        queue = await channel.declare_queue(self.names.queue(node), durable=True, arguments=arguments)
        entry = await channel.declare_exchange(self.names.entry(node), ExchangeType.TOPIC, durable=True)
        await queue.bind(entry, "#")
        for arrow in self._into.get(node, ()):
            if len(arrow.key.encode()) > LONGEST_KEY:
                raise RunError(f"the key {shown(arrow.key)} has more than the {LONGEST_KEY} bytes that AMQP allows")
            source = await channel.declare_exchange(self.names.emitted(arrow.source), ExchangeType.TOPIC, durable=True)
            await queue.bind(source, arrow.key)
        self._declared.add(node)

    def targets(self, node: str, key: str) -> list[str]:
        """Return the nodes whose queues take what a node sends with a key."""
        return list(dict.fromkeys(a.target for a in self._graph.outgoing[node] if matches(a.key, key)))

    async def timer(self, node: str, wait: int) -> AbstractExchange:
        """Return what keeps messages for so many milliseconds, and then sends them on as the node does."""
        from aio_pika import ExchangeType

        name = self.names.timer(node, wait)
        now = asyncio.get_running_loop().time()
        if now - self._timers.get(name, -RENEW) >= RENEW:
            arguments: dict[str, Any] = {
                "x-queue-type": "quorum",
                "x-message-ttl": wait,
                "x-expires": wait + int(1000 * UNUSED),
                "x-dead-letter-exchange": self.names.emitted(node),
                "x-dead-letter-strategy": "at-least-once",
                "x-overflow": "reject-publish",
            }
            with _as_it_was():
                queue = await self.outgoing.declare_queue(name, durable=True, arguments=arguments)
                exchange = await self.outgoing.declare_exchange(
                    name, ExchangeType.TOPIC, durable=True, auto_delete=True
                )
                await queue.bind(exchange, "#")
            self._timers[name] = now
        return await self.at(name)

    async def at(self, name: str) -> AbstractExchange:
        """Return an exchange that is declared."""
        exchange = self._exchanges.get(name)
        if exchange is None:
            exchange = self._exchanges[name] = await self.outgoing.get_exchange(name, ensure=False)
        return exchange


@contextmanager
def _as_it_was() -> Iterator[None]:
    """Say what to do where a name on the broker has something else already."""
    from aio_pika.exceptions import ChannelPreconditionFailed

    try:
        yield
    except ChannelPreconditionFailed as error:
        raise RunError(
            f"the broker has a queue or exchange of this name that is another one: {error}; was it made when a "
            "node had no state, or by another version? Delete it there, once it is empty"
        ) from None
