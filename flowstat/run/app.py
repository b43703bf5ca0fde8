"""An app: a graph and the behaviours of its nodes, run by an event loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from time import time_ns

from flowstat.errors import RunError
from flowstat.read.canonical import TraceWriter
from flowstat.read.graph import Graph
from flowstat.read.words import shown
from flowstat.run.behaviour import Behaviour, Function, Retry, check_retry, unknown_node
from flowstat.run.comparison import ReplayResult
from flowstat.run.components import Components
from flowstat.run.conduct import conduct, journal_header
from flowstat.run.journal_writer import JournalWriter
from flowstat.run.latencies import VirtualTime
from flowstat.run.lines import component_name
from flowstat.run.loop import Injection, Limits, Progress
from flowstat.run.mirror import MirrorResult, mirror
from flowstat.run.network import Clock
from flowstat.run.pool import Together
from flowstat.run.program import Supervision
from flowstat.run.replay import replay
from flowstat.run.tally import RunResult
from flowstat.run.watch import Watch

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
        marks: int = 0,
        contemporaneously: Together | bool = False,
        components: Supervision | bool = True,
        log: Callable[[str], object] | None = None,
        watch: Watch | None = None,
    ) -> RunResult:
        """Inject messages, each of which starts a run, and handle all that follows from it.

        Parameters
        ----------
        injections
            Messages `(node, key, body)`. The next one is taken when nothing is left of the one before; in real
            time, when nothing is left but timers; in virtual time with `every`, when it is due. In real time they may
            be a `flowstat.run.inject.Stream`: timers and components do not wait for its next message.
        writer
            Where the trace goes (`open_writer`); None records nothing.
        limits
            Where to stop a message storm.
        clock
            Nanoseconds since 1970, such as `time.time_ns`, for the time columns, `ctx.now` and timers; or
            `VirtualTime`. Without one these columns are null, and timers go off in their order when nothing
            else is left. But for real time, the same seed gives the same bytes. Time ends in the year 2262: a run that
            comes there is stopped.
        progress
            Called once a batch with the events and runs so far and the length of the queue.
        journal
            A file to make, which gets every message from outside before it is handled: `replay` needs no more.
            In real time the clock then stands still between them.
        marks
            After how many messages from outside the journal gets the digest of every node's state, for mirrors and
            replays to compare; 0: at the end only.
        contemporaneously
            Whether messages are handled many at a time, and how many: nodes with a state one by one, others all that
            are there, `async` behaviours at their awaits, plain functions in a pool. Else one event at a time.
        components
            Whether to start the programs of the graph's components, and how they are kept. With them a run is in real
            time, and goes on until its sources have ended. Without, their nodes forward what they get.
        log
            Called with each line for the log, such as a component's standard error; printed there unless given.
        watch
            Looks at the run from another thread while it goes on.

        Raises
        ------
        RunError
            For a component that can't be started, an injection that is no message for a node, a state that can't be
            made, an emit after its behaviour has returned, a body or state that a journal can't keep, a process of the
            pool that was ended, or a behaviour that cancels the tasks of others.
        OutputError
            If the trace or the journal can't be written; what was written before stays readable.
        """
        limits = limits or Limits()
        live = bool(components and self.graph.components)
        if live and isinstance(clock, VirtualTime):
            raise RunError("components run in real time: take another clock, or leave them out (components=False)")
        together = Together() if contemporaneously is True else contemporaneously or None
        if together and (journal is not None or live):
            what = "a journal" if journal is not None else "components"
            raise RunError(f"with {what} messages are handled one at a time: leave out contemporaneously")
        if live and clock is None:
            clock = time_ns
        # What is wrong with what was given is told before there is a file.
        if isinstance(clock, VirtualTime):
            clock.check(self.graph)
        with ExitStack() as stack:
            kept = None
            if journal is not None:
                header = journal_header(self.graph, self.seed, clock, limits, live)
                kept = stack.enter_context(JournalWriter(journal, header, marks=marks))
            programs = None
            if live:
                how = components if isinstance(components, Supervision) else None
                programs = stack.enter_context(Components(self.graph.components, log, how))
            result = conduct(
                self.graph,
                self.behaviours,
                self.seed,
                injections,
                writer,
                limits=limits,
                clock=clock,
                progress=progress,
                live=live,
                together=together,
                watch=watch,
                components=programs,
                journal=kept,
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
            As `run` wrote it, also by a process that was killed; its seed, clock and limits count, not the app's. The
            states that it has, at the end and where they were marked, are compared, and how many events there were.
        writer
            Where the trace goes; its bytes are those that the run itself would have written.
        against
            A trace that the run recorded, to be compared with; that of a killed run may end earlier. Bodies are not in
            a trace: a difference shows as soon as a key, a node, a time or a status hangs on it.
        progress
            As for `run`.

        Raises
        ------
        RunError
            If the journal or the trace can't be read, or the graph is not the one that was run.
        """
        return replay(self.graph, self.behaviours, journal, writer, against=against, progress=progress)

    def mirror(
        self,
        journal: str | Path,
        injections: Iterable[Injection] = (),
        writer: TraceWriter | None = None,
        *,
        progress: Progress | None = None,
        marks: int = 0,
    ) -> MirrorResult:
        """Follow the journal of a run that goes on in another process, and take over when that is killed.

        The state of each node is that of the run, since it comes of the same events; where the run marks its states in
        the journal, they are compared. In time the mirror is one message behind: when the next one came has to be
        known first.

        Parameters
        ----------
        journal
            Of the run, on the same machine; it may be about to be made.
        injections
            What the run injects, from its beginning: where it is killed, the mirror goes on after what was accepted.
        writer
            Where the trace of all of it goes.
        progress
            As for `run`.
        marks
            As for `run`, from when the mirror has taken over.

        Raises
        ------
        RunError
            If the journal is none, or damaged, or of another graph, or of a run with components; or a state differs.
        OutputError
            If the trace or the journal can't be written.
        """
        return mirror(self.graph, self.behaviours, journal, injections, writer, progress=progress, marks=marks)

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
