"""The deque event loop: it drives a network with injected messages, and notes what happens."""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from flowstat.errors import RunError
from flowstat.read.canonical import TraceWriter
from flowstat.read.words import shown
from flowstat.run.behaviour import Message
from flowstat.run.network import Flood, Network, Queued, Route
from flowstat.run.record import DROPPED, ERROR, PENDING, Recorder
from flowstat.run.tally import RunResult, Tally, waiting

__all__ = ["Injection", "Limits", "Progress", "drive"]

Injection = tuple[str, str, object]
"""A message from outside: node, key, body."""

Progress = Callable[[int, int, int], object]
"""Told, once a batch: events so far, runs so far, messages in the queue."""

INTERRUPTED = "interrupted."

FIRST_ROWS = 256
"""Rows of the first batch; each batch is twice as long as the one before, up to `batch_rows`."""


@dataclass(frozen=True)
class Limits:
    """How far a run of the loop may go: events in all, messages waiting at once, rows in a batch.

    The queue may hold more than `max_queue` by what one event sends, at most as many again.
    """

    max_events: int = 10_000_000
    max_queue: int = 100_000
    batch_rows: int = 65_536

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isinstance(value, int) or value < 1:
                raise RunError(f"{name} is a whole number of at least 1, not {value!r}")


def drive(
    network: Network,
    injections: Iterable[Injection],
    writer: TraceWriter | None,
    limits: Limits,
    progress: Progress | None,
    seed: int,
) -> RunResult:
    """Run the network until its injections are used up or a limit is reached.

    The next injection is taken when the queue is empty: runs follow one another, and memory is bounded.
    """
    loop = _Loop(network, writer, limits, progress)
    with _deferred_interrupts(loop):
        try:
            loop.run(injections)
        except KeyboardInterrupt:
            loop.stopped = INTERRUPTED
        finally:
            loop.finish()
    tally = loop.tally
    return RunResult(
        events=loop.span - loop.lost,
        runs=loop.runs,
        seed=seed,
        dropped=tally.dropped,
        dropped_others=tally.dropped_others,
        errors=tally.errors,
        errors_others=tally.errors_others,
        pending=waiting(hop.node.name for hop, *_ in loop.queue),
        stopped=loop.stopped,
        interrupted=loop.stopped == INTERRUPTED,
    )


class _Loop:
    """The loop and where it is; `span` is the last row's id, `lost` counts the rows of dropped emits."""

    def __init__(self, network: Network, writer: TraceWriter | None, limits: Limits, progress: Progress | None) -> None:
        self.network = network
        self.limits = limits
        self.progress = progress
        self.recorder = None if writer is None else Recorder(writer, clocked=network.clock is not None)
        self.queue: deque[Queued] = deque()
        self.tally = Tally()
        self.span = self.lost = self.runs = self.interrupts = 0
        self.stopped: str | None = None
        self.pulling = self.finishing = False
        # The first batches are small: a slow program's trace is soon readable, and its progress seen.
        self.rows = min(FIRST_ROWS, limits.batch_rows)
        self.batch_end = self.rows
        self.checkpoint = min(self.batch_end, limits.max_events)

    def run(self, injections: Iterable[Injection]) -> None:
        """Handle messages until there are none, or the loop is stopped."""
        network, queue, recorder, clock = self.network, self.queue, self.recorder, self.network.clock
        put, take, new = queue.append, queue.popleft, tuple.__new__
        if recorder:
            # Rows are noted in place, not through a method: this is most of what recording costs.
            add_hop, add_parent, add_sent = recorder.hops.append, recorder.parents.append, recorder.sent.append
            add_sent_at, add_started, add_ended = (column.append for column in recorder.times)
        span = 0
        started = now = None
        try:
            self.pulling = True
            for injection in injections:
                self.pulling = False
                hop, body = network.injection(injection)
                self.runs = run = self.runs + 1
                if recorder:
                    recorder.begin_run()
                put((hop, 0, body, clock() if clock else None))
                while queue:
                    if span >= self.checkpoint and self._stops_at(span):
                        return
                    queued = take()
                    hop, parent, body, sent_at = queued
                    node = hop.node
                    outbox = node.outbox
                    lost = None
                    try:
                        if outbox:
                            raise _late(node.name)
                        if clock:
                            started = clock()
                        message = new(Message, (node.name, hop.key, body, run))
                        node.handle(node.state, message, node.context)
                        if clock:
                            now = clock()
                    except BaseException as error:
                        if not self._survives(error, queued):
                            raise
                        if clock:
                            now = clock()
                        span += 1
                        sent = ERROR
                    else:
                        span += 1
                        sent = 0
                        if outbox:
                            route, body = outbox.pop()
                            if outbox or route.only is None:
                                outbox.append((route, body))
                                sent, lost = self._scatter(outbox, span, now)
                            else:  # one message, most often
                                put((route.only, span, body, now))
                                sent = route.sent
                    if recorder:
                        add_hop(hop.code)
                        add_parent(parent)
                        add_sent(sent)
                        if clock:
                            add_sent_at(sent_at)
                            add_started(started)
                            add_ended(now)
                    if lost:
                        span = self._drop(node.name, lost, span, now)
                if self.stopped:
                    return
                self.pulling = True
        finally:
            self.span = span
        if late := network.late_emits():
            raise _late(late)

    def finish(self) -> None:
        """Write what is not written yet, and a row for every message that still waits."""
        self.finishing = True
        if self.recorder is None:
            return
        for hop, parent, _, sent_at in self.queue:
            self.recorder.add(hop.code, parent, PENDING, sent_at, None, None)
        self._write()

    def _scatter(
        self, outbox: list[tuple[Route, object]], span: int, now: int | None
    ) -> tuple[int, list[tuple[int, str]]]:
        """Send what an event emitted, unless that is just one message; return its pattern, and the dropped."""
        put = self.queue.append
        for route, body in outbox:
            for hop in route.hops:
                put((hop, span, body, now))
        lost = [route.dropped for route, _ in outbox if route.dropped]
        sent = self.network.together([route for route, _ in outbox])
        outbox.clear()
        if len(self.queue) > self.limits.max_queue:
            self._storm(f"more than {self.limits.max_queue:,} messages were waiting")
        return sent, lost

    def _drop(self, node: str, lost: Sequence[tuple[int, str]], span: int, now: int | None) -> int:
        """Count and note the dropped emits of an event; return the last row's span id."""
        for code, key in lost:
            self.tally.drop(node, key)
            if self.recorder:
                self.recorder.add(code, span, DROPPED, now, None, None)
        self.lost += len(lost)
        return span + len(lost)

    def _survives(self, error: BaseException, queued: Queued) -> bool:
        """Count an exception of a behaviour; one that ends the run leaves its message waiting."""
        node = queued[0].node
        node.outbox.clear()
        if isinstance(error, (KeyboardInterrupt, _Late)):
            self.queue.appendleft(queued)
            return False
        if isinstance(error, Flood):
            self._storm(str(error))
        self.tally.fail(node.name, error)
        return True

    def _storm(self, what: str) -> None:
        """Stop the loop before the next event."""
        if not self.stopped:
            self.stopped = (
                f"{what} (max_queue), a message storm: look for a loop that sends more than it takes, or raise "
                "max_queue if this many are expected."
            )
            self.checkpoint = 0

    def _stops_at(self, span: int) -> bool:
        """Write a batch that is full, report progress, and return whether the loop is to stop."""
        if span >= self.batch_end:
            self._write()
            self.network.tidy(self.queue)
            self.rows = min(2 * self.rows, self.limits.batch_rows)
            self.batch_end = span + self.rows
            if self.progress:
                self.progress(span - self.lost, self.runs, len(self.queue))
        if span - self.lost >= self.limits.max_events and not self.stopped:
            self.stopped = (
                f"{self.limits.max_events:,} events were handled (max_events) and messages still wait: look for a "
                "loop without an exit, or raise max_events if this many are expected."
            )
        self.checkpoint = min(self.batch_end, self.limits.max_events + self.lost)
        return self.stopped is not None

    def _write(self) -> None:
        recorder = self.recorder
        if recorder:
            self.recorder = None  # not tried again if it fails
            recorder.write(self.network.codes)
            self.recorder = recorder


class _Late(RunError):
    """An emit came when its node was not handling a message."""


def _late(node: str) -> _Late:
    return _Late(
        f"a ctx.emit of {shown(node)} came after its behaviour had returned: emit before it returns, and not "
        "from a thread or with another node's ctx"
    )


@contextmanager
def _deferred_interrupts(loop: _Loop) -> Iterator[None]:
    """Let Ctrl-C end the loop between two events; a second one ends it inside a behaviour.

    Where the program has a handler of its own for the signal, or is not in its main thread, that stays.
    """
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield
        return

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        if loop.finishing:
            return
        loop.interrupts += 1
        loop.stopped = INTERRUPTED
        loop.checkpoint = 0
        if loop.pulling or loop.interrupts > 1:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
