"""A worker's hand: handles what has come, records it, and says what is to be sent and what is done.

It runs in a thread of its own, so that the connection lives while a behaviour takes its time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from time import monotonic, time_ns
from typing import Any

from flowstat.errors import RunError
from flowstat.read.words import shown
from flowstat.run.amqp_core import Core, Emitted, Event
from flowstat.run.amqp_link import BROKER_LIMIT, Post
from flowstat.run.amqp_outgoing import GivenUp
from flowstat.run.amqp_rows import Kept, Row
from flowstat.run.amqp_shards import Shards
from flowstat.run.amqp_wire import VERSION, Letter, Parcel, Refused, Wire, in_parcels, read, span_of, write
from flowstat.run.tally import Tally

__all__ = ["Delivery", "Hand", "Step"]

SLICE = 0.05
"""Seconds after which what was handled so far is recorded and sent."""

MOST = 4096
"""Events that are recorded at once."""


@dataclass
class Delivery:
    """An AMQP message that came to a node; `at` says how many of its messages are done, `steps` how many steps that it
    has a part in are not confirmed.
    """

    node: str
    wire: Wire
    count: int
    """How often it was delivered before, as far as the broker knows."""
    handle: Any
    """What acknowledges it."""
    parcel: Parcel | None = None
    at: int = 0
    steps: int = 0
    done: bool = False


@dataclass
class Step:
    """What was handled at once: what is to be sent, what is given up, and which deliveries have a part in it."""

    posts: list[Post] = field(default_factory=list)
    given_up: list[GivenUp] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)


class Hand:
    """Handles deliveries by a core, and records them in a shard.

    Parameters
    ----------
    batch
        How many messages one body may hold.
    limit
        How often a message that has come before is tried again: a worker that handles it may be killed by it.
    """

    def __init__(self, core: Core, shards: Shards, batch: int, limit: int) -> None:
        self.core = core
        self.shards = shards
        self.batch = batch
        self.limit = limit
        self.tally = Tally()
        self.events = self.repeated = 0
        self.replayed: dict[str, int] = {}
        self._events: list[Event] = []
        self._fresh: set[str] = set()

    def restore(self, node: str, stop: Callable[[], bool] = lambda: False) -> bool:
        """Bring a node's state to where its recorded events have left it; return whether it is, and not told to stop.

        Raises
        ------
        RunError
            If its behaviour does not do again what it did.
        """
        self.core.settle(node)
        for row, kept in self.shards.history(node):
            letter = Letter(kept.message, row["trace_id"], row["parent_id"], kept.tried, row["sent_at"], kept.body)
            if stop():
                return False
            now = partial(int, row["started_at"])
            again = self.core.handle(letter, row["parent"], row["key"], node, now, again=True)
            same = (again.sent, again.status, again.turn) == (row["sent"], row["status"], kept.turn)
            if not same or again.emits != kept.emits:
                raise RunError(
                    f"the state of {shown(node)} can't be brought back: handling its event {row['span_id']} of the run "
                    f"{row['trace_id']} again does something else. Its behaviour uses what is not in its messages "
                    "(real time, chance of its own, a file), or is not the one that ran"
                )
            self.replayed[node] = kept.turn or 0
        return True

    def work(self, deliveries: deque[Delivery]) -> Step:
        """Handle deliveries, from the first on, for a short while; those that are done are taken away."""
        step = Step()
        posts: dict[tuple[str, str, int, bool], list[Letter]] = {}
        ends = monotonic() + SLICE
        while deliveries:
            delivery = deliveries[0]
            step.deliveries.append(delivery)
            delivery.steps += 1
            self._open(delivery, step)
            if self._go_on(delivery, step, posts, ends):
                deliveries.popleft()
                delivery.done = True
            if monotonic() >= ends or len(self._events) >= MOST:
                break
        self._record()
        for (node, key, wait, again), letters in posts.items():
            step.posts += [Post(p, node, wait) for p in in_parcels(node, key, again, letters, self.batch)]
        return step

    def _go_on(
        self, delivery: Delivery, step: Step, posts: dict[tuple[str, str, int, bool], list[Letter]], ends: float
    ) -> bool:
        """Handle the messages of a delivery; return whether they are all done."""
        parcel = delivery.parcel
        if parcel is None:
            return True
        # One that was sent again may have ended a worker as the other copy of it.
        came_before = delivery.count > 0
        suspect = came_before or parcel.again
        if suspect:
            self._record()
            self.shards.refresh()
        while delivery.at < len(parcel.letters):
            letter = parcel.letters[delivery.at]
            delivery.at += 1
            span = span_of(letter.id, delivery.node)
            if span in self._fresh or self.shards.knows(span):
                # Who recorded it has it to send as well, until it is acknowledged: only where that one is gone we do.
                found = self.shards.find(letter.id, span) if came_before else None
                self.repeated += 1
                if found:
                    self._send_again(*found, posts)
                continue
            if suspect and self._is_given_up(letter, parcel, delivery, span, step):
                continue
            event = self.core.handle(letter, parcel.source, parcel.key, delivery.node, time_ns)
            self._note(event)
            for emitted in event.emits:
                posts.setdefault((event.node, emitted.key, _milliseconds(emitted), False), []).append(
                    emitted.letter(event)
                )
            if suspect:
                self._record()
            if (monotonic() >= ends or len(self._events) >= MOST) and delivery.at < len(parcel.letters):
                return False
        return True

    def _is_given_up(self, letter: Letter, parcel: Parcel, delivery: Delivery, span: str, step: Step) -> bool:
        """Say that a message is tried again, before it is; or give it up if it was tried too often."""
        only = Parcel(VERSION, parcel.source, parcel.key, True, [letter])
        tries = self.shards.tries(span)
        if tries >= self.limit:
            self.shards.give_up(letter, parcel.source, parcel.key, delivery.node)
            why = f"tried {tries} times after its worker had ended at it"
            step.given_up.append(GivenUp(delivery.node, write(only, single=True), why))
            return True
        if delivery.count >= BROKER_LIMIT // 2:
            # It was only in hand when others ended their worker: sent anew, its count begins anew too.
            step.posts.append(Post(only, delivery.node, only=delivery.node))
            return True
        self.shards.try_again(span)
        return False

    def _open(self, delivery: Delivery, step: Step) -> None:
        """Read a delivery's body; what can't be read, or can't have come by an arrow, is given up."""
        if delivery.parcel is not None or delivery.at:
            return
        try:
            parcel = read(delivery.wire)
        except Refused as refused:
            step.given_up.append(GivenUp(delivery.node, delivery.wire, str(refused)))
            return
        if not self.core.takes(parcel.source, parcel.key, delivery.node):
            why = f"the graph has no arrow {parcel.source}/{parcel.key} -> {delivery.node}"
            for letter in parcel.letters:
                self.shards.give_up(letter, parcel.source, parcel.key, delivery.node)
            step.given_up.append(GivenUp(delivery.node, delivery.wire, why))
            return
        delivery.parcel = parcel

    def _note(self, event: Event) -> None:
        self.events += 1
        self._events.append(event)
        self._fresh.add(event.span)
        for _, key in event.lost:
            self.tally.drop(event.node, key)
        if event.error is not None:
            self.tally.fail(event.node, event.error)

    def _record(self) -> None:
        if self._events:
            self.shards.write(self._events)
            self._events.clear()
            self._fresh.clear()

    def _send_again(self, row: Row, kept: Kept, posts: dict[tuple[str, str, int, bool], list[Letter]]) -> None:
        """Send what a recorded event sent."""
        letter = Letter(kept.message, row["trace_id"], row["parent_id"], kept.tried, row["sent_at"], kept.body)
        event = Event(
            letter,
            row["parent"],
            row["key"],
            row["name"],
            row["span_id"],
            row["status"],
            row["sent"],
            row["started_at"],
            row["ended_at"],
            kept.emits,
            [],
        )
        for emitted in kept.emits:
            posts.setdefault((event.node, emitted.key, _milliseconds(emitted), True), []).append(emitted.letter(event))


def _milliseconds(emitted: Emitted) -> int:
    """Return how long an emit waits: three digits of it, so that there are not too many queues for it; no shorter."""
    wait = -(-emitted.wait // 1_000_000)
    unit: int = 10 ** max(0, len(str(wait)) - 3)
    return -(-wait // unit) * unit
