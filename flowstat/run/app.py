"""An app: a graph and the behaviours of its nodes, run by the deque event loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import cycle, islice

from flowstat.errors import RunError
from flowstat.read.canonical import TraceWriter
from flowstat.read.graph import Graph
from flowstat.read.words import quote_argument, shown
from flowstat.run.behaviour import Behaviour, Context, Function, Message, unknown_node
from flowstat.run.loop import Injection, Limits, Progress, drive
from flowstat.run.network import Clock, Network, Node
from flowstat.run.tally import RunResult

__all__ = ["App", "spread"]


class App:
    """A graph whose nodes have behaviours.

    Parameters
    ----------
    graph
        Which messages can flow where.
    seed
        Of `ctx.random`: the same seed, behaviours and injections give the same trace.
    behaviours
        Behaviours by node, such as those of a behaviours file.

    Examples
    --------
    >>> from flowstat.read.files import parse_graph
    >>> app = App(parse_graph("order -> pay; pay/retry -> pay; pay/ok -> ship"), seed=7)
    >>> @app.on("pay")
    ... def pay(state, message, ctx):
    ...     ctx.emit(message.body, key="retry" if ctx.random.random() < 0.2 else "ok")
    >>> result = app.run([("order", "", n) for n in range(1000)])
    >>> result.runs, result.stopped
    (1000, None)
    """

    def __init__(self, graph: Graph, seed: int = 0, behaviours: Mapping[str, Behaviour] | None = None) -> None:
        self.graph = graph
        self.seed = seed
        self.behaviours: dict[str, Behaviour] = {}
        for behaviour in (behaviours or {}).values():
            self._add(behaviour)

    def on(self, node: str, state: Callable[[], object] | None = None) -> Callable[[Function], Function]:
        """Tie a plain function `(state, message, ctx)` to a node; for use as a decorator.

        Parameters
        ----------
        node
            The node's name.
        state
            Called without arguments at the start of each run of the loop; makes the function's `state`
            (None where it is not given).

        Raises
        ------
        RunError
            If the graph has no such node, it has a behaviour already, or the function is no behaviour.
        """

        def tie(function: Function) -> Function:
            self._add(Behaviour(node, function, state))
            return function

        return tie

    def run(
        self,
        injections: Iterable[Injection],
        writer: TraceWriter | None = None,
        *,
        limits: Limits | None = None,
        clock: Clock | None = None,
        progress: Progress | None = None,
    ) -> RunResult:
        """Inject messages, each of which starts a run, and handle all that follows from it.

        Parameters
        ----------
        injections
            Messages `(node, key, body)`; the next one is taken when nothing is left of the one before.
        writer
            Where the trace goes (`open_writer`); None records nothing.
        limits
            Where to stop a message storm.
        clock
            Nanoseconds since 1970, such as `time.time_ns`, for the time columns and `ctx.now`. Without
            one they are null, and the same seed gives the same bytes.
        progress
            Called once a batch with the events and runs so far and the length of the queue.

        Raises
        ------
        RunError
            For an injection that is no message for a node, a state that can't be made, or an emit after
            its behaviour has returned.
        OutputError
            If the trace can't be written; what was written before stays readable.
        """
        network = Network(self.graph, self._settle, self.seed, clock, (limits or Limits()).max_queue)
        for name in self.behaviours:
            network.node(name)
        result = drive(network, injections, writer, limits or Limits(), progress, self.seed)
        commands = (" ".join(map(quote_argument, c.command)) for c in self.graph.components)
        return replace(result, components=tuple(f"[ {command} ]" for command in commands))

    def _add(self, behaviour: Behaviour) -> None:
        if behaviour.node not in self.graph.outgoing:
            raise RunError(f"{behaviour.place()}: {unknown_node(behaviour.node, self.graph)}")
        first = self.behaviours.setdefault(behaviour.node, behaviour)
        if first is not behaviour:
            raise RunError(
                f"two behaviours for the node {shown(behaviour.node)}: {first.place()} and {behaviour.place()}"
            )

    def _settle(self, network: Network, node: Node) -> None:
        behaviour = self.behaviours.get(node.name)
        if behaviour:
            node.handle = behaviour.function
            try:
                node.state = behaviour.state() if behaviour.state else None
            except Exception as error:
                raise RunError(
                    f"can't make the state of {shown(node.name)}: {type(error).__name__}: {error}"
                ) from error
        elif self.graph.outgoing[node.name]:
            node.handle = _forward


def spread(graph: Graph, runs: int, starts: Iterable[str] | None = None) -> Iterator[Injection]:
    """Inject `runs` messages without key or body, in turn at `starts` (the graph's own unless given).

    Raises
    ------
    RunError
        If `runs` is negative, there is no start, or one is no node of the graph.
    """
    if runs < 0:
        raise RunError(f"the number of runs is 0 or more, not {runs}")
    nodes = graph.starts if starts is None else tuple(starts)
    for node in nodes:
        if node not in graph.outgoing:
            raise RunError(f"can't start there: {unknown_node(node, graph)}")
    if not nodes:
        raise RunError("no node to start at: name one")
    return ((node, "", None) for node in islice(cycle(nodes), runs))


def _forward(state: object, message: Message, ctx: Context) -> None:
    ctx.emit(message.body, message.key)
