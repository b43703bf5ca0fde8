"""Which event loop a run needs: the deque one where time does not count, else the timed one."""

from __future__ import annotations

from collections.abc import Iterable
from time import sleep

from flowstat.read.canonical import TraceWriter
from flowstat.run.components import Components
from flowstat.run.feeds import Feed, VirtualFeed, WallFeed
from flowstat.run.journal_writer import JournalWriter
from flowstat.run.journalled import JournalledFeed
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


def drive(
    network: Network,
    injections: Iterable[Injection],
    writer: TraceWriter | None,
    seed: int,
    *,
    limits: Limits,
    clock: Clock | VirtualTime | None,
    progress: Progress | None,
    feed: Feed | None = None,
    components: Components | None = None,
    journal: JournalWriter | None = None,
    halt: tuple[int, str] | None = None,
    states: dict[str, str] | None = None,
    watch: Watch | None = None,
) -> RunResult:
    """Inject messages into a network, and handle all that follows from them.

    `feed` stands in for the clock's own, `components` are programs that run, `journal` takes what comes from outside,
    `halt` says after how many rows to stop, and why, `watch` looks at the loop, and `states` gets the digests of the
    nodes' states at the end.
    """
    recorder = None if writer is None else Recorder(writer, clocked=clock is not None)
    if clock is None:
        taken = injections if journal is None else journal.following(injections, network.states)
        loop: Loop = UntimedLoop(network, taken, recorder, limits, progress)
    else:
        if isinstance(clock, VirtualTime):
            clock.check(network.graph)
            network.delays = clock.delays(seed)
        if components is not None and not isinstance(clock, VirtualTime):
            feed = live = LiveFeed(components, injections, clock)
            network.hand_over = live.send
        elif feed is None:
            feed = _feed(injections, clock, seed)
        if journal is not None:
            feed = JournalledFeed(feed, journal)
        loop = TimedLoop(network, feed, recorder, limits, progress)
    if watch is not None:
        watch.attach(loop)
    if halt is not None:
        loop.halt_at(*halt)
    result = run_loop(loop, seed)
    found = network.states() if states is not None or journal is not None else {}
    if states is not None:
        states.update(found)
    if journal is not None:
        told = {"events": result.events, "runs": result.runs, "span": loop.span, "stopped": result.stopped}
        journal.end({**told, "states": found})
    return result


def _feed(injections: Iterable[Injection], clock: Clock | VirtualTime, seed: int) -> Feed:
    if isinstance(clock, VirtualTime):
        return VirtualFeed(injections, clock.start, clock.gap(seed))
    return WallFeed(injections, clock, sleep)
