"""A run of a graph with behaviours, from its network to its result; what a run, a replay and a mirror share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from flowstat.errors import RunError
from flowstat.read.canonical import TraceWriter
from flowstat.read.graph import Graph
from flowstat.read.words import shown
from flowstat.run.behaviour import Behaviour
from flowstat.run.digest import digest
from flowstat.run.drive import drive
from flowstat.run.follow import forward
from flowstat.run.handlers import Awaiter, handler
from flowstat.run.latencies import VirtualTime
from flowstat.run.lines import component_name
from flowstat.run.loop import Injection, Limits, Progress
from flowstat.run.network import Clock, Network, Node
from flowstat.run.pool import Together
from flowstat.run.tally import RunResult
from flowstat.run.together import drive_together
from flowstat.run.watch import Watch

__all__ = ["conduct", "journal_header", "journalled_clock"]

Behaviours = Mapping[str, Behaviour]


def conduct(
    graph: Graph,
    behaviours: Behaviours,
    seed: int,
    injections: Iterable[Injection],
    writer: TraceWriter | None,
    *,
    limits: Limits,
    clock: Clock | VirtualTime | None,
    progress: Progress | None,
    live: bool,
    together: Together | None = None,
    watch: Watch | None = None,
    **more: Any,
) -> RunResult:
    """Inject messages into a graph with behaviours, and handle all that follows.

    `live` says that programs handle the messages of components' nodes, `together` that many messages are handled at a
    time; `watch` looks at the run, and `more` goes to `drive`.
    """
    with Awaiter() as awaiter:
        network = Network(graph, partial(_settle, behaviours, awaiter, live), seed, limits.max_queue)
        for name in behaviours:
            network.node(name)
        if together is not None:
            return drive_together(
                network,
                dict(behaviours),
                injections,
                writer,
                seed,
                together,
                limits=limits,
                clock=clock,
                progress=progress,
                watch=watch,
            )
        more |= {"limits": limits, "clock": clock, "progress": progress, "watch": watch}
        return drive(network, injections, writer, seed, **more)


def journal_header(
    graph: Graph, seed: int, clock: Clock | VirtualTime | None, limits: Limits, live: bool
) -> dict[str, Any]:
    """Return what a journal says of its run, besides what came from outside."""
    return {
        "graph": _fingerprint(graph),
        "seed": seed if abs(seed) < 2**63 else str(seed),
        "clock": clock.to_dict() if isinstance(clock, VirtualTime) else None if clock is None else "wall",
        "limits": [min(limit, 2**63 - 1) for limit in (limits.max_events, limits.max_queue, limits.batch_rows)],
        "components": live,
    }


def journalled_clock(header: Mapping[str, Any], graph: Graph, path: object) -> VirtualTime | Clock | None:
    """Return the clock of a journal's run, after a look at whether its graph is this one.

    Raises
    ------
    RunError
        If it is of another graph.
    """
    if header["graph"] != _fingerprint(graph):
        raise RunError(f"{path} is of another graph: take the graph that was run")
    kept = header["clock"]
    return VirtualTime.of(kept) if isinstance(kept, dict) else None if kept is None else _no_time


def _fingerprint(graph: Graph) -> str:
    return digest([list(graph.nodes), [(a.source, a.key, a.target) for a in graph.arrows]])


def _no_time() -> int:
    """Stand in for a clock whose times the journal has."""
    return 0


def _settle(behaviours: Behaviours, awaiter: Awaiter, live: bool, network: Network, node: Node) -> None:
    behaviour = behaviours.get(node.name)
    program = next((c for c in network.graph.components if c.node == node.name), None) if live else None
    if behaviour and program:
        raise RunError(
            f"{shown(node.name)} has a behaviour, {behaviour.place()}, and a component, {component_name(program)}: "
            "leave one of them out"
        )
    if program:
        node.wired = True
        node.handle = lambda state, message, ctx: network.hand_over(message.node, message.key, message.body)
    elif behaviour:
        node.handle = handler(behaviour, awaiter.run)
        node.retry = behaviour.retry
        try:
            node.state = behaviour.state() if behaviour.state else None
        except Exception as error:
            raise RunError(f"can't make the state of {shown(node.name)}: {type(error).__name__}: {error}") from error
    elif network.graph.outgoing[node.name]:
        node.handle = forward
