"""What a worker does with a message: pure, a letter in, an event with its emits out; no broker, no file."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from hashlib import blake2b
from random import Random
from typing import Any, NamedTuple

import msgspec

from flowstat.errors import RunError
from flowstat.read.graph import Graph
from flowstat.read.patterns import format_pattern
from flowstat.read.topics import matches
from flowstat.read.words import shown
from flowstat.run.amqp_names import LONGEST_KEY
from flowstat.run.amqp_wire import Letter, pack, span_of, unpack
from flowstat.run.behaviour import Behaviour, Message
from flowstat.run.handlers import handler
from flowstat.run.network import SECOND, nanoseconds

__all__ = ["Core", "Emitted", "Event", "dropped_span"]

MOST_EMITS = 100_000
"""What one event may emit: more is a mistake of its behaviour."""

LONGEST_WAIT = 5 * 365 * 86_400
"""Seconds that a message may wait at the broker: RabbitMQ takes ten years, of which some are for rounding up."""


class Emitted(msgspec.Struct, array_like=True):
    """One emit of an event that an arrow takes: the how manyth, its key, nanoseconds to wait, attempts, body."""

    index: int
    key: str
    wait: int
    tried: int
    body: msgspec.Raw

    def letter(self, event: Event) -> Letter:
        """Return the message: the same id however often it is sent."""
        return Letter(_child(event, self.index), event.letter.trace, event.span, self.tried, event.ended, self.body)


class Event(NamedTuple):
    """A message that was handled; `lost` are its emits that no arrow takes, by number and key; `turn` the how manyth of
    its node it is, where that has a state.
    """

    letter: Letter
    source: str | None
    key: str
    node: str
    span: str
    status: str
    sent: str
    started: int
    ended: int
    emits: list[Emitted]
    lost: list[tuple[int, str]]
    turn: int | None = None
    error: BaseException | None = None


class Core:
    """The nodes of a graph with their behaviours and states.

    Every event has chance of its own, seeded by the app's seed, the message and the node: handled again anywhere, it
    draws the same.
    """

    def __init__(
        self,
        graph: Graph,
        behaviours: dict[str, Behaviour],
        seed: int,
        wait: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self.graph = graph
        self._seed = seed
        self._behaviours = behaviours
        self._handlers = {name: handler(behaviour, wait) for name, behaviour in behaviours.items()}
        self._states: dict[str, Any] = {}
        self._turns: dict[str, int] = {}
        self._routes: dict[tuple[str, str], tuple[str, ...]] = {}

    def has_state(self, node: str) -> bool:
        """Whether a node has a state, so that one worker at a time handles its messages, in order."""
        behaviour = self._behaviours.get(node)
        return behaviour is not None and behaviour.state is not None

    def state(self, node: str) -> Any:
        """Return a node's state."""
        return self._states.get(node)

    def settle(self, node: str) -> None:
        """Make a node's state, as it is before any event."""
        behaviour = self._behaviours.get(node)
        if behaviour is None or behaviour.state is None:
            return
        try:
            self._states[node] = behaviour.state()
        except Exception as error:
            raise RunError(f"can't make the state of {shown(node)}: {type(error).__name__}: {error}") from error
        self._turns[node] = 0

    def takes(self, source: str | None, key: str, node: str) -> bool:
        """Whether the graph has an arrow by which such a message can have come."""
        return source is None or (source in self.graph.outgoing and node in self.targets(source, key))

    def targets(self, node: str, key: str) -> tuple[str, ...]:
        """Return the nodes that an emit with a key goes to, each once."""
        found = self._routes.get((node, key))
        if found is None:
            arrows = self.graph.outgoing[node]
            found = tuple(dict.fromkeys(a.target for a in arrows if matches(a.key, key)))
            if len(self._routes) > 65_536:  # keys may be as many as messages
                self._routes.clear()
            self._routes[node, key] = found
        return found

    def handle(
        self, letter: Letter, source: str | None, key: str, node: str, now: Callable[[], int], again: bool = False
    ) -> Event:
        """Handle a message at a node; `again`: as it was handled before, and `ctx.sleep` takes no time."""
        started = now()
        behaviour = self._behaviours.get(node)
        span = span_of(letter.id, node)
        error: BaseException | None = None
        out: list[tuple[str, int, int, msgspec.Raw]]
        if behaviour is None:
            out = [(key, 0, 0, letter.body)] if self.graph.outgoing[node] else []
        else:
            context = _Context(node, started, f"{self._seed} {letter.id} {node}", again)
            try:
                message = Message(node, key, unpack(letter.body), int(letter.trace[16:], 16))
                self._handlers[node](self._states.get(node), message, context)
                out = context.close()
            except BaseException as raised:
                context.close()
                error = raised
                out = self._again(behaviour, letter, source, error)
        turn = None
        if node in self._turns:
            turn = self._turns[node] = self._turns[node] + 1
        emits: list[Emitted] = []
        lost: list[tuple[int, str]] = []
        went: list[str] = []
        for index, (sent_key, wait, tried, body) in enumerate(out):
            targets = self.targets(node, sent_key)
            if targets:
                went += targets
                emits.append(Emitted(index, sent_key, wait, tried, body))
            else:
                lost.append((index, sent_key))
        status = "ok" if error is None else "error"
        ended = max(now(), started)
        sent = format_pattern(went) if went else ""
        return Event(letter, source, key, node, span, status, sent, started, ended, emits, lost, turn, error)

    def _again(
        self, behaviour: Behaviour, letter: Letter, source: str | None, error: BaseException
    ) -> list[tuple[str, int, int, msgspec.Raw]]:
        """Return what is sent for a message that a behaviour failed on: it again, by the node's policy."""
        retry = behaviour.retry
        if retry is None or not isinstance(error, Exception):
            return []
        tried = (letter.tried if source == behaviour.node else 0) + 1
        if tried > retry.times:
            return [(retry.then, 0, 0, letter.body)]
        try:
            wait = min(retry.after(tried), LONGEST_WAIT)
        except OverflowError:
            wait = LONGEST_WAIT
        return [(retry.key, nanoseconds(wait), tried, letter.body)]


def dropped_span(event: Event, index: int) -> str:
    """Return the id of the row of an emit that no arrow takes."""
    return span_of(_child(event, index), "")


def _child(event: Event, index: int) -> str:
    """Return the id of a message that an event emits: of the event, as copies at two nodes are one message."""
    return blake2b(f"{event.letter.id}\0{event.node}\0{index}".encode(), digest_size=16).hexdigest()


class _Context:
    """The `Context` of one event: its clock stands still, so that the event is the same when it is handled again."""

    __slots__ = ("_again", "_open", "_out", "_random", "_seed", "node", "now")

    def __init__(self, node: str, now: int, seed: str, again: bool) -> None:
        self.node = node
        self.now: int | None = now
        self._seed = seed
        self._random: Random | None = None
        self._out: list[tuple[str, int, int, msgspec.Raw]] = []
        self._open = True
        self._again = again

    @property
    def random(self) -> Random:
        if self._random is None:
            self._random = Random(self._seed)
        return self._random

    def emit(self, body: object = None, key: str = "") -> None:
        self._send(body, key, 0)

    def after(self, seconds: float, key: str = "", body: object = None) -> None:
        wait = nanoseconds(seconds)
        if wait > LONGEST_WAIT * SECOND:
            raise ValueError(
                f"a message waits {LONGEST_WAIT:,} seconds (five years) at a broker at most, not {seconds!r}"
            )
        self._send(body, key, wait)

    def sleep(self, seconds: float) -> Awaitable[None]:
        wait = nanoseconds(seconds)
        return asyncio.sleep(0 if self._again else wait / SECOND)

    def close(self) -> list[tuple[str, int, int, msgspec.Raw]]:
        self._open = False
        return self._out

    def _send(self, body: object, key: str, wait: int) -> None:
        if not self._open:
            raise RunError(
                f"a ctx.emit of {shown(self.node)} came after its behaviour had returned: emit before it returns"
            )
        if not isinstance(key, str):
            raise TypeError(f"a topic key is a text, not {shown(repr(key))}")
        if len(key.encode()) > LONGEST_KEY:
            raise ValueError(f"the topic key {shown(key)} has more than the {LONGEST_KEY} bytes that AMQP allows")
        if len(self._out) >= MOST_EMITS:
            raise RunError(f"one event of {shown(self.node)} emitted more than {MOST_EMITS:,} messages")
        self._out.append((key, wait, 0, pack(body)))
