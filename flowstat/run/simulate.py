"""Simulation of a graph without behaviours: every event draws its arrow by the designer's shares."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate

from flowstat.read.canonical import TraceWriter
from flowstat.read.graph import Arrow, Graph
from flowstat.run.behaviour import Handler
from flowstat.run.drive import drive
from flowstat.run.inject import spread
from flowstat.run.latencies import VirtualTime
from flowstat.run.loop import Limits, Progress
from flowstat.run.network import Clock, Network, Node
from flowstat.run.tally import RunResult
from flowstat.run.watch import Watch

__all__ = ["simulate"]

ROUNDING = 1e-9
"""Shares that add up to 1 but for this mean 1: such a node never stops a run."""


def simulate(
    graph: Graph,
    runs: int,
    seed: int = 0,
    writer: TraceWriter | None = None,
    *,
    starts: Iterable[str] | None = None,
    limits: Limits | None = None,
    clock: Clock | VirtualTime | None = None,
    progress: Progress | None = None,
    watch: Watch | None = None,
) -> RunResult:
    """Send messages through a graph by chance, and record the same kind of trace as a real run.

    Each event sends one message along one of its node's arrows, or none: arrow k with the chance
    `Graph.arrow_shares(node)[k]`, independent of all before. So a run is a walk of the chain that has
    these shares. The recorded key is the arrow's, or null where that has a wildcard.

    Parameters
    ----------
    graph
        Behaviours are not needed; arrows without an `@` share have even ones.
    runs
        How many messages to inject.
    seed
        The same seed gives the same trace.
    writer, limits, clock, progress, watch
        As for `App.run`.
    starts
        Nodes to inject the messages at, in turn; `graph.starts` unless given.

    Raises
    ------
    RunError
        If `runs` is negative or a start is no node.
    OutputError
        If the trace can't be written.

    Examples
    --------
    >>> from flowstat.read.files import parse_graph
    >>> simulate(parse_graph("a -> a @0.5; a -> b"), runs=1000, seed=1).runs
    1000
    """
    limits = limits or Limits()
    network = Network(graph, _settle, seed, limits.max_queue)
    injections = spread(graph, runs, starts)
    return drive(network, injections, writer, seed, limits=limits, clock=clock, progress=progress, watch=watch)


def _settle(network: Network, node: Node) -> None:
    arrows = network.graph.outgoing[node.name]
    if arrows:
        node.handle = _drawing(network, node, arrows)


def _drawing(network: Network, node: Node, arrows: tuple[Arrow, ...]) -> Handler:
    """Return a behaviour that draws one arrow."""
    shares = network.graph.arrow_shares(node.name)
    bounds = list(accumulate(shares))
    if bounds[-1] > 1 - ROUNDING:
        last = max(k for k, share in enumerate(shares) if share > 0)
        bounds[last:] = [1.0] * (len(bounds) - last)
    chance, routes, put = network.random.random, node.routes, node.outbox.append

    def draw(state: object, message: object, ctx: object) -> None:
        k = bisect_right(bounds, chance())
        if k == len(bounds):
            return
        if k not in routes:
            _, key, target, _ = arrows[k]
            wild = any(word in ("*", "#") for word in key.split("."))
            routes[k] = network.along(node, None if wild else key, target)
        put((routes[k], None))

    return draw
