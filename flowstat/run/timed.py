"""The event loop in time, virtual or real: timers and messages under way wait until they are due."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from heapq import heappop, heappush

from flowstat.run.behaviour import Message
from flowstat.run.feeds import Ended, Feed
from flowstat.run.loop import Limits, Loop, Progress, Waiting, late
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
        self.set = 0
        network.clock = feed.now
        network.pause = feed.pause

    def run(self) -> None:
        """Handle messages until there are none, or the loop is stopped."""
        ready, agenda, feed, network = self.ready, self.agenda, self.feed, self.network
        while True:
            until = agenda[0][0] if agenda else None
            if not ready or feed.due(until, self.span):
                if self.stopped:
                    return
                self.pulling = True
                try:
                    injection = feed.take(until, self.span)
                except Ended:
                    break
                finally:
                    self.pulling = False
                now = feed.now()
                if injection is None:
                    while agenda and agenda[0][0] <= now:
                        ready.append(heappop(agenda)[2])
                else:
                    hop, body = network.injection(injection)
                    self.runs += 1
                    self.put(hop, 0, body, now, 0, self.runs)
                    self.crowded(len(ready) + len(agenda))
                continue
            if self.span >= self.checkpoint and self.stops_at(self.span):
                return
            self._handle(ready.popleft())
        self.check_late()

    def _handle(self, queued: Queued) -> None:
        hop, parent, body, sent_at, run = queued
        node, now, span = hop.node, self.feed.now, self.span + 1
        outbox, lost, sent = node.outbox, None, 0
        started = now()
        try:
            if outbox:
                raise late(node)
            node.handle(node.state, Message(node.name, hop.key, body, run), node.context)  # type: ignore[arg-type]
            ended = now()
            if outbox:
                sent, lost = self.scatter(outbox, span, ended, run)
        except BaseException as error:
            ended = now()
            try:
                sent, lost = self.fail(error, hop, body, span, ended, run)
            except BaseException:
                self.ready.appendleft(queued)
                raise
        self.crowded(len(self.ready) + len(self.agenda))
        self.span = span
        recorder = self.recorder
        if recorder:
            recorder.hops.append(hop.code)
            recorder.parents.append(parent)
            recorder.sent.append(sent)
            recorder.runs.append(run)
            for times, time in zip(recorder.times, (sent_at, started, ended), strict=True):
                times.append(time)
        if lost:
            self.span = self.drop(node.name, lost, span, ended, run)

    def put(self, hop: Hop, span: int, body: object, now: int | None, wait: int, run: int) -> None:
        """Let a message wait for its turn, or first for `wait` nanoseconds and as long as it is under way."""
        assert now is not None
        if hop.delay:
            wait += hop.delay()
        queued = (hop, span, body, now, run)
        if wait:
            self.set += 1
            heappush(self.agenda, (now + wait, self.set, queued))
        else:
            self.ready.append(queued)

    def waiting(self) -> Iterator[Waiting]:
        """Return the messages that are not handled yet, in the order that they would be."""
        later = (queued for _, _, queued in sorted(self.agenda, key=lambda timer: timer[:2]))
        for queue in (self.ready, later):
            for hop, parent, _, sent_at, run in queue:
                yield hop, parent, sent_at, run
