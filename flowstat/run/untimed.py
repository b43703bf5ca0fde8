"""The deque event loop, in which time does not count: one run after another, as fast as it goes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from heapq import heappop, heappush

from flowstat.run.behaviour import Message
from flowstat.run.loop import Injection, Limits, Loop, Progress, Waiting, check_returned, late
from flowstat.run.network import Hop, Network
from flowstat.run.record import Recorder

__all__ = ["UntimedLoop"]

Queued = tuple[Hop, int, object]
"""A message that waits: its hop, the span id of the event that sent it (0: injected), its body."""


class UntimedLoop(Loop):
    """Handles messages in the order they were sent; timers go off when nothing else is left, earliest first.

    The next injection is taken when nothing is left of the one before: runs follow one another, and memory is bounded.
    """

    def __init__(
        self,
        network: Network,
        injections: Iterable[Injection],
        recorder: Recorder | None,
        limits: Limits,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(network, recorder, limits, progress)
        self.injections = injections
        self.queue: deque[Queued] = deque()
        self.timers: list[tuple[int, int, Queued]] = []
        self.logical = self.set = 0

    def run(self) -> None:
        """Handle messages until there are none, or the loop is stopped."""
        network, queue, recorder = self.network, self.queue, self.recorder
        put, take, new = queue.append, queue.popleft, tuple.__new__
        if recorder:
            # Rows are noted in place, not through a method: this is most of what recording costs.
            add_hop, add_parent, add_sent = recorder.hops.append, recorder.parents.append, recorder.sent.append
        span = 0
        try:
            self.pulling = True
            for injection in self.injections:
                self.pulling = False
                hop, body = network.injection(injection)
                self.runs = run = self.runs + 1
                if recorder:
                    recorder.begin_run()
                put((hop, 0, body))
                while queue:
                    if span >= self.checkpoint and self.stops_at(span):
                        return
                    queued = take()
                    hop, parent, body = queued
                    node = hop.node
                    outbox = node.outbox
                    lost = None
                    try:
                        if outbox:
                            raise late(node)
                        message = new(Message, (node.name, hop.key, body, run))
                        found = node.handle(node.state, message, node.context)
                        if found is not None:
                            check_returned(found)
                    except BaseException as error:
                        try:
                            sent, lost = self.fail(error, hop, body, span + 1, None, run)
                        except BaseException:
                            queue.appendleft(queued)
                            raise
                        span += 1
                    else:
                        span += 1
                        sent = 0
                        if outbox:
                            route, body = outbox.pop()
                            if outbox or route.only is None:
                                outbox.append((route, body))
                                sent, lost = self.scatter(outbox, span, None, run)
                                self.crowded(len(queue) + len(self.timers))
                            else:  # one message, most often
                                put((route.only, span, body))
                                sent = route.sent
                    if recorder:
                        add_hop(hop.code)
                        add_parent(parent)
                        add_sent(sent)
                    if lost:
                        span = self.drop(node.name, lost, span, None, run)
                    if not queue and self.timers:
                        self.logical, _, queued = heappop(self.timers)
                        put(queued)
                if self.stopped:
                    return
                self.pulling = True
        finally:
            self.span = span
        self.check_late()

    def put(self, hop: Hop, span: int, body: object, now: int | None, wait: int, run: int) -> None:
        """Let a message wait for its turn, or first for `wait` nanoseconds."""
        if wait:
            self.set += 1
            heappush(self.timers, (self.logical + wait, self.set, (hop, span, body)))
        else:
            self.queue.append((hop, span, body))

    def waiting(self) -> Iterator[Waiting]:
        """Return the messages that are not handled yet, in the order that they would be."""
        for hop, parent, _ in self.queue:
            yield hop, parent, None, self.runs
        for _, _, (hop, parent, _) in sorted(self.timers, key=lambda timer: timer[:2]):
            yield hop, parent, None, self.runs
