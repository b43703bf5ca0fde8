"""The event loop on a ring of 8 nodes, beside a bare deque loop, Pykka's actors, and itself with recording."""

import statistics
import tempfile
import time
from collections import deque
from pathlib import Path
from threading import Event
from types import FunctionType

import pykka

from flowstat.read.canonical import open_writer
from flowstat.read.files import parse_graph
from flowstat.run.app import App
from flowstat.run.behaviour import Message
from flowstat.run.loop import Limits
from tests.benchmarks.harness import Row, alternate, median_ratio

NODES = 8
EVENTS = 400_000
ACTOR_EVENTS = 20_000
IN_FLIGHT = 1
"""Messages that circulate at once: one, so that each waits for the one before, as in the classic ring."""


def template(state, message, ctx):
    ctx.emit(message.body, "go")


def own_behaviour():
    """The same behaviour with code of its own: the interpreter tunes code to the `ctx` that it meets."""
    return FunctionType(template.__code__.replace(), globals())


def looped(record=False, clock=None):
    app = App(parse_graph("".join(f"n{k}/go -> n{(k + 1) % NODES};" for k in range(NODES)) + "in -> n0"))
    behaviour = own_behaviour()
    for k in range(NODES):
        app.on(f"n{k}")(behaviour)

    @app.on("in")
    def start(state, message, ctx):
        for _ in range(IN_FLIGHT):
            ctx.emit(message.body)

    injections, limits = [("in", "", 1)], Limits(max_events=EVENTS)
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
