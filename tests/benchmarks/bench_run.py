"""The event loop on a ring of 8 nodes, beside other loops and actors, and itself with recording; and replay."""

import asyncio
import os
import statistics
import tempfile
import time
from collections import deque
from pathlib import Path
from threading import Event
from types import FunctionType

import pykka
import simpy
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event

from flowstat.read.canonical import open_writer
from flowstat.read.files import parse_graph
from flowstat.read.graph import Graph
from flowstat.run.app import App
from flowstat.run.behaviour import Message
from flowstat.run.loop import Limits
from tests.benchmarks.harness import Row, alternate, median_ratio

NODES = 8
EVENTS = 400_000
ACTOR_EVENTS = 20_000
PEER_EVENTS = 80_000
REPLAYED = 20_000
IN_FLIGHT = 1
"""Messages that circulate at once: one, so that each waits for the one before, as in the classic ring."""


def template(state, message, ctx):
    ctx.emit(message.body, "go")


def own_behaviour():
    """The same behaviour with code of its own: the interpreter tunes code to the `ctx` that it meets."""
    return FunctionType(template.__code__.replace(), globals())


def looped(record=False, clock=None, journal=False):
    app = App(parse_graph("".join(f"n{k}/go -> n{(k + 1) % NODES};" for k in range(NODES)) + "in -> n0"))
    behaviour = own_behaviour()
    for k in range(NODES):
        app.on(f"n{k}")(behaviour)

    @app.on("in")
    def start(state, message, ctx):
        for _ in range(IN_FLIGHT):
            ctx.emit(message.body)

    injections, limits = [("in", "", 1)], Limits(max_events=EVENTS)
    if journal:
        with tempfile.TemporaryDirectory() as folder:
            return app.run(injections, limits=limits, journal=Path(folder) / "j")
    if not record:
        return app.run(injections, limits=limits, clock=clock)
    with tempfile.TemporaryDirectory() as folder, open_writer(Path(folder) / "t.parquet") as writer:
        return app.run(injections, writer, limits=limits, clock=clock)


class Next:
    """The least that the behaviour needs of a `ctx`: what it emits goes to the next node."""

    __slots__ = ("emit",)

    def __init__(self, target, put):
        new, name = tuple.__new__, f"n{target}"

        def emit(body=None, key=""):
            put((target, new(Message, (name, key, body, 1))))

        self.emit = emit


class Same:
    """Less than the behaviour needs: the body that it emits is ignored, one message goes round and round."""

    __slots__ = ("emit",)

    def __init__(self, target, put):
        message = Message(f"n{target}", "go", 1, 1)

        def emit(body=None, key=""):
            put((target, message))

        self.emit = emit


def bare(context):
    queue = deque()
    behaviour = own_behaviour()
    nodes = [(behaviour, None, context((k + 1) % NODES, queue.append)) for k in range(NODES)]
    queue.extend([(0, Message("n0", "go", 1, 1))] * IN_FLIGHT)
    take = queue.popleft
    for _ in range(EVENTS):
        target, message = take()
        handle, state, ctx = nodes[target]
        handle(state, message, ctx)


class Actor(pykka.ThreadingActor):
    def __init__(self, done):
        super().__init__()
        self.target = None
        self.done = done
        self.left = ACTOR_EVENTS // NODES

    def on_receive(self, message):
        self.left -= 1
        if not self.left:
            self.done.set()
        template(None, message, self)

    def emit(self, body, key):
        self.target.tell(Message("", key, body, 1))


def actors():
    done = Event()
    ring = [Actor.start(done) for _ in range(NODES)]
    try:
        for k, actor in enumerate(ring):
            actor.proxy().target = ring[(k + 1) % NODES]
        for _ in range(IN_FLIGHT):
            ring[0].tell(Message("", "go", 1, 1))
        done.wait()
    finally:
        pykka.ActorRegistry.stop_all()


def queues():
    """Actors of asyncio: a task and a queue each."""

    async def main():
        ring = [asyncio.Queue() for _ in range(NODES)]
        over = asyncio.Event()

        async def actor(k):
            class Emitting:
                @staticmethod
                def emit(body, key):
                    ring[(k + 1) % NODES].put_nowait(Message("", key, body, 1))

            for _ in range(PEER_EVENTS // NODES):
                template(None, await ring[k].get(), Emitting)
            over.set()

        tasks = [asyncio.create_task(actor(k)) for k in range(NODES)]
        ring[0].put_nowait(Message("n0", "go", 1, 1))
        await over.wait()
        for task in tasks:
            task.cancel()

    asyncio.run(main())


def processes():
    """Processes of SimPy: a store each."""
    env = simpy.Environment()
    ring = [simpy.Store(env) for _ in range(NODES)]

    def actor(k):
        class Emitting:
            @staticmethod
            def emit(body, key):
                ring[(k + 1) % NODES].put(Message("", key, body, 1))

        for _ in range(PEER_EVENTS // NODES):
            template(None, (yield ring[k].get()), Emitting)

    for k in range(NODES):
        env.process(actor(k))
    ring[0].put(Message("n0", "go", 1, 1))
    env.run()


class Counter(Aggregate):
    def __init__(self):
        self.seen = 0

    @event("Counted")
    def count(self, body):
        self.seen += 1


def replays(folder):
    """Return a replay of a state by our journal, and by eventsourcing's SQLite: so many events each."""
    graph = Graph.of(nodes=["count"])

    def made():
        app = App(graph)

        @app.on("count", state=dict)
        def count(state, message, ctx):
            state["seen"] = state.get("seen", 0) + 1

        return app

    made().run((("count", "", k) for k in range(REPLAYED)), journal=folder / "j")
    os.environ |= {"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": str(folder / "events.db")}
    application, counter = Application(), Counter()
    for k in range(REPLAYED):
        counter.count(k)
    application.save(counter)

    def ours():
        assert made().replay(folder / "j").differences == ()

    def theirs():
        assert application.repository.get(counter.id).seen == REPLAYED

    return ours, theirs


def rate(times, events=EVENTS):
    return f"{events / statistics.median(times):,.0f}/s"


def benchmarks():
    ours, bare_loop, same = alternate(looped, lambda: bare(Next), lambda: bare(Same))
    yield Row(
        "event loop / bare deque loop: messages a second",
        median_ratio(bare_loop, ours),
        1 / 5,
        "at least",
        f"{rate(ours)} and {rate(bare_loop)}; {rate(same)} if the bare loop made no messages",
    )
    ours, pykka_ring = alternate(looped, actors, repetitions=5)
    yield Row(
        "event loop / Pykka, one message going round: messages a second",
        median_ratio(pykka_ring, ours) * EVENTS / ACTOR_EVENTS,
        15,
        "at least",
        f"{rate(ours)} and {rate(pykka_ring, ACTOR_EVENTS)}",
    )
    for name, peer in (("asyncio.Queue actors", queues), ("SimPy", processes)):
        ours, other = alternate(looped, peer, repetitions=5)
        yield Row(
            f"event loop / {name}, one message going round: messages a second",
            median_ratio(other, ours) * EVENTS / PEER_EVENTS,
            5,
            "at least",
            f"{rate(ours)} and {rate(other, PEER_EVENTS)}",
        )
    plain, recorded = alternate(looped, lambda: looped(journal=True), repetitions=11)
    yield Row(
        "inputs journalled / unrecorded: time",
        median_ratio(recorded, plain),
        1.05,
        "at most",
        f"{rate(recorded)} and {rate(plain)}",
    )
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = alternate(*replays(Path(folder)), repetitions=5)
    yield Row(
        "replay of a state / eventsourcing with SQLite: events a second",
        median_ratio(theirs, ours),
        10,
        "at least",
        f"{rate(ours, REPLAYED)} and {rate(theirs, REPLAYED)}",
    )
    plain, recorded = alternate(looped, lambda: looped(record=True), repetitions=11)
    yield Row(
        "recorded to Parquet / unrecorded: time",
        median_ratio(recorded, plain),
        1.7,
        "at most",
        f"{rate(recorded)} and {rate(plain)}",
    )
    plain, recorded = alternate(looped, lambda: looped(record=True, clock=time.time_ns), repetitions=3)
    yield Row(
        "the same with a wall clock (--clock wall)",
        median_ratio(recorded, plain),
        float("inf"),
        "at most",
        f"for information: {rate(recorded)} and {rate(plain)}",
    )
