"""The event loop in time, virtual or real: timers and messages under way wait until they are due."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from heapq import heappop, heappush

from flowstat.errors import RunError
from flowstat.run.behaviour import Message
from flowstat.run.feeds import Answer, Ended, EndOfTime, Feed
from flowstat.run.loop import Limits, Loop, Progress, Waiting, check_returned, late
from flowstat.run.moments import LAST
from flowstat.run.network import Hop, Network
from flowstat.run.record import Recorder

__all__ = ["TimedLoop"]

Queued = tuple[Hop, int, object, int, int]
"""A message that waits: its hop, the span id of the event that sent it (0: injected), its body, sent when, its run."""


class TimedLoop(Loop):
    """Handles one message at a time, in the order in which they are due; runs overlap.

    Messages that are due at once are handled in the order they were sent.
    """

    def __init__(
        self,
        network: Network,
        feed: Feed,
        recorder: Recorder | None,
        limits: Limits,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(network, recorder, limits, progress)
        self.feed = feed
        self.ready: deque[Queued] = deque()
        self.agenda: list[tuple[int, int, Queued]] = []
        self.handed: dict[str, deque[tuple[Queued, int]]] = {}
        # Messages set to wait, and messages that were handled or handed to a program.
        self.set = self.turn = 0
        network.clock = feed.now
        network.pause = feed.pause

    def run(self) -> None:
        """Handle messages until there are none, or the loop is stopped."""
        ready, agenda, feed, network = self.ready, self.agenda, self.feed, self.network
        while True:
            until = agenda[0][0] if agenda else None
            if not ready or feed.due(until, self.turn, len(ready)):
                if self.stopped:
                    return
                self.pulling = True
                try:
                    found = feed.take(until, self.turn)
                except Ended as over:
                    if isinstance(over, EndOfTime):
                        self.out_of_time()
                    break
                finally:
                    self.pulling = False
                now = feed.now()
                if found is None:
                    while agenda and agenda[0][0] <= now:
                        ready.append(heappop(agenda)[2])
                elif isinstance(found, Answer):
                    self._answered(found)
                else:
                    hop, body = network.injection(found)
                    self.runs += 1
                    self.put(hop, 0, body, now, 0, self.runs)
                    self.crowded(len(ready) + len(agenda))
                continue
            if self.span >= self.checkpoint and self.stops_at(self.span):
                return
            self._handle(ready.popleft())
        self.check_late()

    def _handle(self, queued: Queued) -> None:
        """Let a node handle a message; or its program, whose answer comes later."""
        hop, parent, body, sent_at, run = queued
        node, now = hop.node, self.feed.now
        outbox = node.outbox
        started = now()
        self.turn += 1
        try:
            if outbox:
                raise late(node)
            found = node.handle(node.state, tuple.__new__(Message, (node.name, hop.key, body, run)), node.context)
            if found is not None:
                check_returned(found)
        except BaseException as error:
            self._done(queued, started, error)
            return
        if node.wired:
            self.handed.setdefault(node.name, deque()).append((queued, started))
            return
        only = outbox[0][0].only if len(outbox) == 1 else None
        if only is None or only.delay:
            self._done(queued, started)
            return
        # One message, most often: what `_done` does, in place.
        route, body = outbox.pop()
        self.span = span = self.span + 1
        ended = now()
        self.ready.append((only, span, body, ended, run))
        if self.recorder:
            self.recorder.note(hop.code, parent, route.sent, run, sent_at, started, ended)

    def _answered(self, answer: Answer) -> None:
        """Handle what a program answers, as of the moment when it took the message; or a line that answers none."""
        handed = self.handed.get(answer.node)
        node = self.network.node(answer.node)
        if answer.what == "sent":
            node.context.emit(answer.body, answer.key)  # type: ignore[attr-defined]
        if handed:
            error = None if answer.what != "failed" else RunError("the program of the node ended without an answer")
            self._done(*handed.popleft(), error)
            return
        # Nothing asked for it: a message from outside, which goes where its node's arrows lead.
        emitted, now = list(node.outbox), self.feed.now()
        node.outbox.clear()
        for route, body in emitted:
            for hop in route.hops:
                self.runs += 1
                self.put(self.network.injection((hop.node.name, answer.key, body))[0], 0, body, now, 0, self.runs)

    def _done(self, queued: Queued, started: int, error: BaseException | None = None) -> None:
        """Send what an event emitted, or see to its error, and note its row."""
        hop, parent, body, sent_at, run = queued
        node, span, ended = hop.node, self.span + 1, self.feed.now()
        lost, sent = None, 0
        if error is not None:
            try:
                sent, lost = self.fail(error, hop, body, span, ended, run)
            except BaseException:
                self.ready.appendleft(queued)
                raise
        elif node.outbox:
            sent, lost = self.scatter(node.outbox, span, ended, run)
        self.crowded(len(self.ready) + len(self.agenda))
        self.span = span
        if self.recorder:
            self.recorder.note(hop.code, parent, sent, run, sent_at, started, ended)
        if lost:
            self.span = self.drop(node.name, lost, span, ended, run)

    def put(self, hop: Hop, span: int, body: object, now: int | None, wait: int, run: int) -> None:
        """Let a message wait for its turn, or first for `wait` nanoseconds and as long as it is under way."""
        if now is None:
            raise RunError("the clock returned None: it is to return nanoseconds since 1970, as time.time_ns does")
        if hop.delay:
            wait += hop.delay()
        queued = (hop, span, body, now, run)
        if wait:
            self.set += 1
            heappush(self.agenda, (now + wait, self.set, queued))
            if now + wait > LAST:
                self.out_of_time()
        else:
            self.ready.append(queued)

    def waiting(self) -> Iterator[Waiting]:
        """Return the messages that are not handled yet, in the order that they would be."""
        later = (queued for _, _, queued in sorted(self.agenda, key=lambda timer: timer[:2]))
        handed = (queued for taken in self.handed.values() for queued, _ in taken)
        for queue in (handed, self.ready, later):
            for hop, parent, _, sent_at, run in queue:
                yield hop, parent, sent_at, run
