"""What every event loop does: it drives a network with messages, counts and notes what happens, and stops in time."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from flowstat.errors import RunError
from flowstat.read.words import shown
from flowstat.run.interrupts import INTERRUPTED, deferred_interrupts
from flowstat.run.network import Flood, Hop, Network, Node, Route
from flowstat.run.record import DROPPED, PENDING, Recorder, failed
from flowstat.run.tally import RunResult, Tally, waiting

__all__ = ["Injection", "Late", "Limits", "Loop", "Progress", "Waiting", "check_returned", "late", "run_loop"]

Injection = tuple[str, str, object]
"""A message from outside: node, key, body."""

Progress = Callable[[int, int, int], object]
"""Told, once a batch: events so far, runs so far, messages in the queue."""

Waiting = tuple[Hop, int, int | None, int]
"""A message that was not handled: its hop, the span id of its sender (0: injected), when it was sent, its run."""

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
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise RunError(f"{name} is a whole number of at least 1, not {value!r}")


def run_loop(loop: Loop, seed: int) -> RunResult:
    """Run a loop until there is nothing left to do or a limit is reached."""
    with deferred_interrupts(loop):
        try:
            loop.run()
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
        pending=waiting(hop.node.name for hop, *_ in loop.waiting()),
        stopped=loop.stopped,
        interrupted=loop.stopped == INTERRUPTED,
    )


class Loop:
    """A loop and where it is; `span` is the last row's id, `lost` counts the rows of dropped emits.

    `pulling` says that it waits for what is outside, and may be interrupted there; `broken_off` that an interrupt ended
    it within an event, which may have changed the node's state.
    """

    def __init__(
        self, network: Network, recorder: Recorder | None, limits: Limits, progress: Progress | None = None
    ) -> None:
        self.network = network
        self.limits = limits
        self.progress = progress
        self.recorder = recorder
        self.watch: Callable[[Recorder], object] | None = None
        self.tally = Tally()
        self.span = self.lost = self.runs = self.interrupts = 0
        self.stopped: str | None = None
        self.halt: tuple[int, str] | None = None
        self.pulling = self.finishing = self.broken_off = False
        # The first batches are small: a slow program's trace is soon readable, and its progress seen.
        self.rows = min(FIRST_ROWS, limits.batch_rows)
        self.batch_end = self.rows
        self.checkpoint = min(self.batch_end, limits.max_events)

    def run(self) -> None:
        """Handle messages until there are none, or the loop is stopped."""
        raise NotImplementedError

    def waiting(self) -> Iterable[Waiting]:
        """Return the messages that are not handled yet, in the order that they would be."""
        raise NotImplementedError

    def put(self, hop: Hop, span: int, body: object, now: int | None, wait: int, run: int) -> None:
        """Let a message wait for its turn, or first for `wait` nanoseconds."""
        raise NotImplementedError

    def halt_at(self, span: int, why: str) -> None:
        """Stop after so many rows, as a run did that is replayed."""
        self.halt = span, why
        self.checkpoint = min(self.checkpoint, span)

    def interrupt(self) -> None:
        """End before the next event."""
        self.stop(INTERRUPTED)

    def stop(self, why: str) -> None:
        """End before the next event."""
        self.stopped = why
        self.checkpoint = 0

    def pulled(self) -> None:
        """Wait no more for what is outside: it has come, and is to be kept before an interrupt."""
        self.pulling = False

    def finish(self) -> None:
        """Write what is not written yet, and a row for every message that still waits."""
        self.finishing = True
        if self.recorder is None:
            return
        for hop, parent, sent_at, run in self.waiting():
            self.recorder.add(hop.code, parent, PENDING, run, sent_at)
        self.write()

    def scatter(
        self, outbox: list[tuple[Route, object]], span: int, now: int | None, run: int
    ) -> tuple[int, list[tuple[int, str]]]:
        """Send what an event emitted; return its pattern, and what no arrow took."""
        put = self.put
        for route, body in outbox:
            wait = route.wait
            for hop in route.hops:
                put(hop, span, body, now, wait, run)
        lost = [route.dropped for route, _ in outbox if route.dropped]
        sent = self.network.together([route for route, _ in outbox])
        outbox.clear()
        return sent, lost

    def drop(self, node: str, lost: Sequence[tuple[int, str]], span: int, now: int | None, run: int) -> int:
        """Count and note the dropped emits of an event; return the last row's span id."""
        for code, key in lost:
            self.tally.drop(node, key)
            if self.recorder:
                self.recorder.add(code, span, DROPPED, run, now)
        self.lost += len(lost)
        return span + len(lost)

    def fail(
        self, error: BaseException, hop: Hop, body: object, span: int, now: int | None, run: int
    ) -> tuple[int, list[tuple[int, str]] | None]:
        """Count an exception of a behaviour, and try again as its node says; return what `scatter` does, as an error.

        Raises
        ------
        BaseException
            The error, where it ends the run; its message is to go on waiting then.
        """
        node = hop.node
        node.outbox.clear()
        if isinstance(error, (KeyboardInterrupt, Late)):
            self.broken_off = True
            raise error
        if isinstance(error, Flood):
            self.storm(str(error))
        self.tally.fail(node.name, error)
        if node.retry is None or isinstance(error, Flood) or not isinstance(error, Exception):
            return failed(0), None
        sent, lost = self.scatter([(self.network.again(node, hop.tried + 1), body)], span, now, run)
        return failed(sent), lost

    def storm(self, what: str) -> None:
        """Stop the loop before the next event."""
        if not self.stopped:
            self.stop(
                f"{what} (max_queue), a message storm: look for a loop that sends more than it takes, or raise "
                "max_queue if this many are expected."
            )

    def out_of_time(self) -> None:
        """Stop the loop before the next event: a time comes that no trace can keep."""
        if not self.stopped:
            self.stop(
                "time came to the year 2262, and a trace keeps none later: start earlier, or look for a timer or a "
                "latency that is too long."
            )

    def crowded(self, length: int) -> None:
        """Stop the loop if this many messages that wait are too many."""
        if length > self.limits.max_queue:
            self.storm(f"more than {self.limits.max_queue:,} messages were waiting")

    def stops_at(self, span: int) -> bool:
        """Write a batch that is full, report progress, and return whether the loop is to stop."""
        if span >= self.batch_end:
            self.write()
            self.network.tidy(hop for hop, *_ in self.waiting())
            self.rows = min(2 * self.rows, self.limits.batch_rows)
            self.batch_end = span + self.rows
            if self.progress:
                self.progress(span - self.lost, self.runs, sum(1 for _ in self.waiting()))
        if span - self.lost >= self.limits.max_events and not self.stopped:
            self.stopped = (
                f"{self.limits.max_events:,} events were handled (max_events) and messages still wait: look for a "
                "loop without an exit, or raise max_events if this many are expected."
            )
        self.checkpoint = min(self.batch_end, self.limits.max_events + self.lost)
        if self.halt:
            if span >= self.halt[0]:
                self.stopped = self.halt[1]
            self.checkpoint = min(self.checkpoint, self.halt[0])
        return self.stopped is not None

    def write(self) -> None:
        """Write the rows that are not written yet."""
        recorder = self.recorder
        if recorder:
            if self.watch:
                self.watch(recorder)
            self.recorder = None  # not tried again if it fails
            recorder.write(self.network.codes)
            self.recorder = recorder

    def check_late(self) -> None:
        """Raise what is wrong if a node emitted when it was not handling a message."""
        if name := self.network.late_emits():
            raise late(name)


def check_returned(found: object) -> None:
    """Refuse what a plain function returned if it was to be awaited or gone through: nobody does.

    Raises
    ------
    RunError
        If it is a coroutine or a generator.
    """
    if inspect.iscoroutine(found):
        found.close()  # without a warning that it was never awaited
    if inspect.isawaitable(found) or inspect.isgenerator(found) or inspect.isasyncgen(found):
        raise RunError(
            f"the behaviour returned {type(found).__name__.replace('_', ' ')} and is no `async` or generator function "
            "itself: make it one (`async def`, `yield`), or let a wrapper around it be one"
        )


class Late(RunError):
    """An emit came when its node was not handling a message."""


def late(node: Node | str) -> Late:
    """Return the error of an emit of the node that came too late."""
    name = node if isinstance(node, str) else node.name
    return Late(
        f"a ctx.emit of {shown(name)} came after its behaviour had returned: emit before it returns, and not "
        "from a thread or with another node's ctx"
    )
