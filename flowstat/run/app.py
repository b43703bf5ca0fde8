"""An app: a graph and the behaviours of its nodes, run by an event loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import time_ns
from typing import Any

from flowstat.errors import RunError
from flowstat.read.canonical import TraceWriter
from flowstat.read.graph import Graph
from flowstat.read.words import shown
from flowstat.run.behaviour import Behaviour, Context, Function, Message, Retry, check_retry, unknown_node
from flowstat.run.components import Components
from flowstat.run.digest import digest
from flowstat.run.drive import drive
from flowstat.run.handlers import Awaiter, handler
from flowstat.run.journal import JournalWriter, read_journal
from flowstat.run.journalled import ReplayFeed, replayed
from flowstat.run.latencies import VirtualTime
from flowstat.run.loop import Injection, Limits, Progress
from flowstat.run.network import Clock, Network, Node
from flowstat.run.program import Supervision, component_name
from flowstat.run.replay import Comparison, ReplayResult, compare_states
from flowstat.run.tally import RunResult

__all__ = ["App"]


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

    def on(
        self, node: str, state: Callable[[], object] | None = None, retry: Retry | None = None
    ) -> Callable[[Function], Function]:
        """Tie a function `(state, message, ctx)` to a node; for use as a decorator.

        It may be a plain function, a generator (what it yields is sent: an `Emit`, or a body without key) or `async`.

        Parameters
        ----------
        node
            The node's name.
        state
            Called without arguments at the start of each run of the loop; makes the function's `state`
            (None where it is not given).
        retry
            What becomes of a message that the function fails on; None: its event ends with status `error`.

        Raises
        ------
        RunError
            If the graph has no such node, it has a behaviour already, the function is no behaviour, or no arrow of the
            node takes its retries.
        """

        def tie(function: Function) -> Function:
            self._add(Behaviour(node, function, state, retry))
            return function

        return tie

    def run(
        self,
        injections: Iterable[Injection],
        writer: TraceWriter | None = None,
        *,
        limits: Limits | None = None,
        clock: Clock | VirtualTime | None = None,
        progress: Progress | None = None,
        journal: str | Path | None = None,
        components: Supervision | bool = True,
        log: Callable[[str], object] | None = None,
    ) -> RunResult:
        """Inject messages, each of which starts a run, and handle all that follows from it.

        Parameters
        ----------
        injections
            Messages `(node, key, body)`. The next one is taken when nothing is left of the one before; in real
            time, when nothing is left but timers; in virtual time with `every`, when it is due.
        writer
            Where the trace goes (`open_writer`); None records nothing.
        limits
            Where to stop a message storm.
        clock
            Nanoseconds since 1970, such as `time.time_ns`, for the time columns, `ctx.now` and timers; or
            `VirtualTime`. Without one these columns are null, and timers go off in their order when nothing
            else is left. But for real time, the same seed gives the same bytes.
        progress
            Called once a batch with the events and runs so far and the length of the queue.
        journal
            A file to make, which gets every message from outside before it is handled: `replay` needs no more.
            In real time the clock then stands still between them.
        components
            Whether to start the programs of the graph's components, and how they are kept. With them a run is in real
            time, and goes on until its sources have ended. Without, their nodes forward what they get.
        log
            Called with each line for the log, such as a component's standard error; printed there unless given.

        Raises
        ------
        RunError
            For a component that can't be started, an injection that is no message for a node, a state that can't be
            made, an emit after its behaviour has returned, or a body or state that a journal can't keep.
        OutputError
            If the trace or the journal can't be written; what was written before stays readable.
        """
        limits = limits or Limits()
        live = bool(components and self.graph.components)
        if live and isinstance(clock, VirtualTime):
            raise RunError("components run in real time: take another clock, or leave them out (components=False)")
        if live and clock is None:
            clock = time_ns
        header = {
            "graph": self._fingerprint(),
            "seed": self.seed,
            "clock": clock.to_dict() if isinstance(clock, VirtualTime) else None if clock is None else "wall",
            "limits": [limits.max_events, limits.max_queue, limits.batch_rows],
            "components": live,
        }
        with ExitStack() as stack:
            kept = None if journal is None else stack.enter_context(JournalWriter(journal, header))
            programs = None
            if live:
                how = components if isinstance(components, Supervision) else None
                programs = stack.enter_context(Components(self.graph.components, log, how))
            result = self._drive(
                injections, writer, limits, clock, progress, live=live, components=programs, journal=kept
            )
        left_out = () if live else self.graph.components
        return replace(result, components=tuple(component_name(c) for c in left_out))

    def replay(
        self,
        journal: str | Path,
        writer: TraceWriter | None = None,
        *,
        against: str | Path | None = None,
        progress: Progress | None = None,
    ) -> ReplayResult:
        """Handle again what a journal says came from outside: the same events, trace and states.

        Parameters
        ----------
        journal
            As `run` wrote it, also by a process that was killed; its seed, clock and limits count, not the app's.
        writer
            Where the trace goes; its bytes are those that the run itself would have written.
        against
            A trace that the run recorded, to be compared with; that of a killed run may end earlier.
        progress
            As for `run`.

        Raises
        ------
        RunError
            If the journal or the trace can't be read, or the graph is not the one that was run.
        """
        found = read_journal(journal)
        header = found.header
        if header["graph"] != self._fingerprint():
            raise RunError(f"{journal} is of another graph: replay it with the graph that was run")
        kept = header["clock"]
        clock = VirtualTime.of(kept) if isinstance(kept, dict) else None if kept is None else (lambda: 0)
        compared = None if against is None else Comparison(against, writer)
        end = found.end or {}
        app = App(self.graph, header["seed"], self.behaviours)
        states: dict[str, str] = {}
        run = app._drive(
            replayed(found),
            compared or writer,
            Limits(*header["limits"]),
            clock,
            progress,
            feed=None if clock is None else ReplayFeed(found.entries),
            halt=(end["span"], end["stopped"]) if end.get("stopped") else None,
            states=states,
            live=header["components"],
        )
        differences = [compared.rest() if compared else None]
        if end:
            differences.append(compare_states(end["states"], states))
        return ReplayResult(run, compared.compared if compared else 0, tuple(d for d in differences if d), found.torn)

    def _drive(
        self,
        injections: Iterable[Injection],
        writer: TraceWriter | None,
        limits: Limits,
        clock: Clock | VirtualTime | None,
        progress: Progress | None,
        *,
        live: bool = False,
        states: dict[str, str] | None = None,
        **more: Any,
    ) -> RunResult:
        with Awaiter() as awaiter:
            network = Network(self.graph, partial(self._settle, awaiter, live), self.seed, limits.max_queue)
            for name in self.behaviours:
                network.node(name)
            result = drive(
                network, injections, writer, self.seed, limits=limits, clock=clock, progress=progress, **more
            )
            if states is not None:
                states.update(network.states())
        return result

    def _fingerprint(self) -> str:
        arrows = [(a.source, a.key, a.target) for a in self.graph.arrows]
        return digest([list(self.graph.nodes), arrows])

    def _add(self, behaviour: Behaviour) -> None:
        if behaviour.node not in self.graph.outgoing:
            raise RunError(f"{behaviour.place()}: {unknown_node(behaviour.node, self.graph)}")
        if behaviour.retry:
            check_retry(behaviour, behaviour.retry, self.graph)
        first = self.behaviours.setdefault(behaviour.node, behaviour)
        if first is not behaviour:
            raise RunError(
                f"two behaviours for the node {shown(behaviour.node)}: {first.place()} and {behaviour.place()}"
            )

    def _settle(self, awaiter: Awaiter, live: bool, network: Network, node: Node) -> None:
        behaviour = self.behaviours.get(node.name)
        program = next((c for c in self.graph.components if c.node == node.name), None) if live else None
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
                raise RunError(
                    f"can't make the state of {shown(node.name)}: {type(error).__name__}: {error}"
                ) from error
        elif self.graph.outgoing[node.name]:
            node.handle = _forward


def _forward(state: object, message: Message, ctx: Context) -> None:
    ctx.emit(message.body, message.key)
