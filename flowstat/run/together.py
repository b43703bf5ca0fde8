"""A run that handles many messages at a time: its loop, its clock and its pool."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack

from flowstat.read.canonical import TraceWriter
from flowstat.run.behaviour import Behaviour
from flowstat.run.contemporaneous import ContemporaneousLoop
from flowstat.run.inject import through
from flowstat.run.latencies import VirtualTime
from flowstat.run.loop import Injection, Limits, Progress, run_loop
from flowstat.run.network import Clock, Network
from flowstat.run.pool import Together, open_pool
from flowstat.run.record import Recorder
from flowstat.run.tally import RunResult
from flowstat.run.virtual_loop import VirtualLoop
from flowstat.run.watch import Watch

__all__ = ["drive_together"]


def drive_together(
    network: Network,
    behaviours: dict[str, Behaviour],
    injections: Iterable[Injection],
    writer: TraceWriter | None,
    seed: int,
    together: Together,
    *,
    limits: Limits,
    clock: Clock | VirtualTime | None,
    progress: Progress | None,
    watch: Watch | None,
) -> RunResult:
    """Inject messages into a network, and handle them contemporaneously."""
    virtual = None
    gap = None
    if isinstance(clock, VirtualTime):
        clock.check(network.graph)
        network.delays, gap = clock.delays(seed), clock.gap(seed)
        virtual = VirtualLoop(clock.start)
        clock = virtual.nanoseconds
    recorder = None if writer is None else Recorder(writer, clocked=True)
    with ExitStack() as stack:
        pool = None if virtual or together.pool is None else stack.enter_context(open_pool(together, behaviours))
        loop = ContemporaneousLoop(
            network,
            behaviours,
            through(injections, network.checked),
            recorder,
            limits,
            progress,
            seed=seed,
            together=together,
            clock=clock,
            virtual=virtual,
            gap=gap,
            pool=pool,
        )
        if watch is not None:
            watch.attach(loop)
        return run_loop(loop, seed)
