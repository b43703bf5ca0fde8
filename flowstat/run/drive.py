"""Which event loop a run needs: the deque one where time does not count, else the timed one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from time import sleep
from typing import Any, Protocol

from flowstat.read.canonical import TraceWriter
from flowstat.run.components import Components
from flowstat.run.feeds import Feed, MakeFeed, VirtualFeed, WallFeed
from flowstat.run.inject import through
from flowstat.run.journalled import States
from flowstat.run.latencies import VirtualTime
from flowstat.run.live import LiveFeed
from flowstat.run.loop import Injection, Limits, Loop, Progress, run_loop
from flowstat.run.network import Clock, Network
from flowstat.run.record import Recorder
from flowstat.run.tally import RunResult
from flowstat.run.timed import TimedLoop
from flowstat.run.untimed import UntimedLoop
from flowstat.run.watch import Watch

__all__ = ["drive"]


class Inputs(Protocol):
    """What takes, or has, all that comes from outside: a journal that is written, replayed or followed.

    `pulled` is called when something has come, before it is kept: from then on an interrupt waits.
    """

    pulled: Callable[[], object]

    def following(self, injections: Iterable[Injection], states: Callable[[], States]) -> Iterator[Injection]:
        """Yield the messages from outside of a run in which time does not count."""

    def feed(self, make: MakeFeed, states: Callable[[], States]) -> Feed:
        """Return the feed of a run in time; `make` makes that of the world."""

    def end(self, end: Mapping[str, Any]) -> None:
        """Keep, or compare, how the run ended."""


def drive(
    network: Network,
    injections: Iterable[Injection],
    writer: TraceWriter | None,
    seed: int,
    *,
    limits: Limits,
    clock: Clock | VirtualTime | None,
    progress: Progress | None,
    components: Components | None = None,
    journal: Inputs | None = None,
    halt: tuple[int, str] | None = None,
    watch: Watch | None = None,
) -> RunResult:
    """Inject messages into a network, and handle all that follows from them.

    `components` are programs that run, `journal` takes or has what comes from outside, `halt` says after how many rows
    to stop, and why, and `watch` looks at the loop.
    """
    if journal is not None or clock is not None:
        injections = through(injections, network.checked)
    recorder = None if writer is None else Recorder(writer, clocked=clock is not None)
    if clock is None:
        taken = injections if journal is None else journal.following(injections, network.states)
        loop: Loop = UntimedLoop(network, taken, recorder, limits, progress)
    else:
        if isinstance(clock, VirtualTime):
            clock.check(network.graph)
            network.delays = clock.delays(seed)
        if components is not None and not isinstance(clock, VirtualTime):
            make: MakeFeed = partial(_live, network, components, injections, clock)
        else:
            make = partial(_feed, injections, clock, seed)
        feed = make(0, None) if journal is None else journal.feed(make, network.states)
        loop = TimedLoop(network, feed, recorder, limits, progress)
    if watch is not None:
        watch.attach(loop)
    if halt is not None:
        loop.halt_at(*halt)
    if journal is not None:
        journal.pulled = loop.pulled
        network.states()  # a state that has no digest is told before anything is handled
    result = run_loop(loop, seed)
    if journal is not None:
        told = {"events": result.events, "runs": result.runs, "span": loop.span, "stopped": result.stopped}
        told |= {"errors": sum(e.events for e in result.errors) + result.errors_others}
        told |= {"dropped": sum(result.dropped.values()) + result.dropped_others}
        journal.end({**told, "states": None if loop.broken_off else network.states()})
    return result


def _feed(
    injections: Iterable[Injection], clock: Clock | VirtualTime, seed: int, taken: int, now: int | None
) -> VirtualFeed | WallFeed:
    rest = through(injections, lambda each: islice(each, taken, None))
    if not isinstance(clock, VirtualTime):
        return WallFeed(rest, clock, sleep)
    feed = VirtualFeed(rest, clock.start, clock.gap(seed))
    if now is not None:
        feed.go_on(taken, now)
    return feed


def _live(
    network: Network, components: Components, injections: Iterable[Injection], clock: Clock, taken: int, now: int | None
) -> LiveFeed:
    feed = LiveFeed(components, through(injections, lambda each: islice(each, taken, None)), clock)
    network.hand_over = feed.send
    return feed
