"""Past one process: workers handle a graph's messages through a RabbitMQ broker; they come and go, any number of them.

A message is taken from its node's queue, handled, recorded in the worker's own trace, what it emits is sent and
confirmed by the broker, and only then it is acknowledged. A worker may be killed at any moment: the message comes
again, to any worker that shares the directory of traces; if it is recorded, what it emitted is sent again under the
same ids, else it is handled. What comes twice is recognised by its id. A node with a state is handled by one worker at
a time, which first applies all the node's recorded events to the state.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from flowstat.errors import RunError
from flowstat.read.words import quote_argument
from flowstat.run.amqp_core import Core
from flowstat.run.amqp_dead import dead_letters
from flowstat.run.amqp_hand import Hand
from flowstat.run.amqp_link import Link
from flowstat.run.amqp_locks import Lock, lock_of
from flowstat.run.amqp_names import Names
from flowstat.run.amqp_reconnect import reconnecting, say_so
from flowstat.run.amqp_result import DeadLetter, WorkResult
from flowstat.run.amqp_session import Session
from flowstat.run.amqp_shards import Shards
from flowstat.run.amqp_thread import Thread, run_to_end
from flowstat.run.behaviour import unknown_node

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection

    from flowstat.run.app import App

__all__ = ["Worker", "work"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def work(
    app: App,
    broker: str,
    traces: str | Path,
    *,
    graph: str = "app",
    nodes: Iterable[str] | None = None,
    worker: str | None = None,
    idle: float | None = None,
    batch: int = 256,
    prefetch: int | None = None,
    limit: int = 5,
    say: Callable[[str], object] | None = None,
) -> WorkResult:
    """Handle messages from a broker until there have been none for a while, or until SIGTERM or SIGINT.

    Parameters
    ----------
    app
        The graph, its behaviours and the seed; the same for all workers.
    broker
        `amqp://user:password@host:port/vhost`, or `amqps://`.
    traces
        A directory, which the workers of a machine share; those of nodes with a state have to. Each worker adds
        `worker-NAME.jsonl`; `read_traces` of the directory reads them as one trace.
    graph
        The graph's name on the broker.
    nodes
        What this worker handles; all of the graph unless given.
    worker
        Its name, which no other that runs may have; made up unless given.
    idle
        Seconds without a message after which it ends; None: it goes on.
    batch
        How many messages may travel in one body. 1: each by itself, so that any program can read it.
    prefetch
        How many bodies of a node may be in hand: 256 if messages travel by themselves, else 16.
    limit
        How often a message is tried again that a worker was killed at, before it goes to the dead-letter queue.
    say
        Told, in a sentence, when the connection is lost or back.

    Raises
    ------
    RunError
        If aio-pika is not installed, there is no broker at the start, a node is none of the graph, another worker has
        the name, the broker's queues are other ones, or a state can't be brought back.
    OutputError
        If the trace can't be written: what it has not handled then waits at the broker.

    Notes
    -----
    Events reach the operating system before they count as recorded: they outlive the process, not the machine. A
    behaviour without a state may be called again for a message that a killed worker had not recorded yet, and by two
    workers at once after a broken connection; the ids and `ctx.random` are the same then. Timers (`ctx.after`, retries)
    wait at the broker, to three digits of their milliseconds, never shorter, five years at most; a body has at most 16
    megabytes there. A message that a sender publishes twice may reach two workers at once: its event is in both traces
    under one id, counts once, and is applied to a state once.

    A queue that an operator has bounded (`max-length`) refuses what it has no room for: that is said, and waited for,
    and the messages that it comes from stay unacknowledged. Around a loop of bounded queues that may be for ever. An
    arrow that a later graph no longer has keeps its binding at the broker: what comes by it goes to the dead letters.
    """
    chosen = tuple(app.graph.nodes if nodes is None else dict.fromkeys(nodes))
    for node in chosen:
        if node not in app.graph.outgoing:
            raise RunError(f"can't handle messages there: {unknown_node(node, app.graph)}")
    if batch < 1 or limit < 1 or (prefetch is not None and not 1 <= prefetch <= 65_535):
        raise RunError("a batch, a limit and a prefetch are whole numbers, 1 or more (a prefetch up to 65,535)")
    name = worker or f"{socket.gethostname()}-{os.getpid()}-{os.urandom(3).hex()}"
    shards = Shards(traces, name)
    thread = Thread()
    locks = {node: lock_of(shards.folder, node) for node in chosen}
    ended = False
    try:
        hand = Hand(Core(app.graph, app.behaviours, app.seed, thread.run), shards, batch, limit)
        made = Worker(app, broker, Names(graph), chosen, hand, shards, locks, thread, say or say_so)
        made.idle = idle
        made.prefetch = prefetch or (256 if batch == 1 else 16)
        made.single = batch == 1
        with _signals_kept():
            result = run_to_end(made.run, lambda: made.end(signal.SIGINT))
        ended = True
        return result
    except asyncio.CancelledError:  # a second signal
        raise KeyboardInterrupt from None
    finally:
        thread.close(wait=ended)
        shards.close()
        # Not before: where a behaviour still goes on, nothing that it does is recorded any more.
        for lock in locks.values():
            lock.release()


class Worker:
    """A worker through all its connections."""

    idle: float | None
    prefetch: int
    single: bool

    def __init__(
        self,
        app: App,
        broker: str,
        names: Names,
        nodes: tuple[str, ...],
        hand: Hand,
        shards: Shards,
        locks: Mapping[str, Lock],
        thread: Thread,
        say: Callable[[str], object],
    ) -> None:
        self.graph = app.graph
        self.broker = broker
        self.names = names
        self.nodes = nodes
        self.hand = hand
        self.shards = shards
        self.say = say
        self.states = [node for node in app.graph.nodes if hand.core.has_state(node)]
        self.locks = {node: lock for node, lock in locks.items() if node in self.states}
        self.restored: set[str] = set()
        self.thread = thread
        self.interrupted = False

    async def run(self) -> WorkResult:
        """Work until it is to end."""
        self.stop = asyncio.Event()
        self._main = asyncio.current_task()
        self._watch_signals()
        dead: tuple[tuple[DeadLetter, ...], int] | None = None

        async def serve(connection: AbstractConnection) -> None:
            nonlocal dead
            link = Link(connection, self.graph, self.names, self.states, self.single)
            await Session(self, link).run()
            dead = await dead_letters(link, self.shards.folder)

        await reconnecting(self.broker, serve, self.stop, self.say)
        if dead is None:
            self.say("the dead-letter queue could not be looked at: the connection was lost before")
            dead = (), 0
        hand = self.hand
        return WorkResult(
            worker=self.shards.worker,
            events=hand.events,
            repeated=hand.repeated,
            restored=hand.replayed,
            dropped=hand.tally.dropped,
            errors=hand.tally.errors,
            others=hand.tally.dropped_others + hand.tally.errors_others,
            components=tuple(f"[ {' '.join(map(quote_argument, c.command))} ]" for c in self.graph.components),
            dead=dead[0],
            dead_letters=dead[1],
            interrupted=self.interrupted,
        )

    def _watch_signals(self) -> None:
        """Let SIGTERM and SIGINT end it when what is in hand is done; a second one at once."""
        if threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self.end, number)

    def end(self, number: int) -> None:
        """Do what a signal tells; from its event loop."""
        if self.stop.is_set() and self._main is not None:
            self._main.cancel()
        self.interrupted |= number == signal.SIGINT
        self.stop.set()


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Put back what the program does on a signal: an event loop forgets it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # of a program that embeds Python
                signal.signal(number, handler)
