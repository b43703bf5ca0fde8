"""A look at a run while it goes on."""

import io
import threading

import pytest
from rich.console import Console

from flowstat.read.files import parse_graph
from flowstat.run.app import App
from flowstat.run.inject import spread
from flowstat.run.latencies import VirtualTime
from flowstat.run.loop import Limits
from flowstat.run.watch import Discarding, Watch
from flowstat.show.watching import status_table

GRAPH = parse_graph("a -> b; b/again -> b; b/out -> c; c -> d -> c; a -> e")


def shown(status):
    console = Console(file=io.StringIO(), width=80)
    console.print(status_table(status))
    return console.file.getvalue()


@pytest.mark.parametrize("way", [{}, {"clock": VirtualTime(1.0)}, {"contemporaneously": True}])
def test_it_sees_what_is_going_on(way):
    now, looks = [0.0], []
    app, watch = App(GRAPH), Watch(GRAPH, lambda: now[0])

    @app.on("b")
    def b(state, message, ctx):
        if message.run % 10 == 0:
            raise ValueError
        ctx.emit(message.body, "again" if ctx.random.random() < 0.9 else "out")
        if len(looks) < 3 and message.run > 20 * len(looks):
            now[0] += 2
            looks.append(watch.status())

    app.on("c")(lambda state, message, ctx: None)
    result = app.run(spread(GRAPH, 90, ["a"]), Discarding(), watch=watch, **way)
    assert len(looks) == 3
    for look in looks:
        by_name = {node.node: node for node in look.nodes}
        assert look.events == sum(node.events for node in look.nodes)
        assert look.waiting == sum(node.waiting for node in look.nodes)
        assert all(node.waiting == 0 or node.node in by_name for node in look.nodes)
        assert look.rate >= 0
    assert looks[0].seconds == 2
    last = watch.status()
    assert last.events == result.events
    assert {node.node: node.errors for node in last.nodes}["b"] == 9
    assert "events" in shown(looks[-1])


def test_rates_and_loops():
    now = [0.0]
    app, watch = App(GRAPH), Watch(GRAPH, lambda: now[0])

    @app.on("b")
    def b(state, message, ctx):
        ctx.emit(message.body, "again")
        ctx.emit(message.body, "out")

    app.run([("b", "", None)], Discarding(), limits=Limits(max_events=500), watch=watch)
    now[0] = 10.0
    status = watch.status()
    assert (status.events, status.rate, status.runs) == (500, 50.0, 1)
    assert {members for members, _ in status.loops} == {("b",), ("c", "d")}
    assert sum(n for _, n in status.loops) == status.waiting
    assert status.line().startswith("10 s: 500 events (50 a second) in 1 runs, ")
    text = shown(status)
    assert "loop of c, d:" in text
    assert "all" in text
    assert "starting" in shown(None)


def test_many_nodes_are_summed_up():
    graph = parse_graph("".join(f"n{k} -> n{k + 1};" for k in range(40)))
    watch = Watch(graph)
    App(graph).run([("n0", "", None)], Discarding(), watch=watch)
    assert "26 more nodes" in shown(watch.status())


def test_looking_from_another_thread_does_no_harm():
    app, watch, over, seen = App(GRAPH, 1), Watch(GRAPH), threading.Event(), []
    app.on("b")(lambda state, message, ctx: ctx.emit(None, "again" if ctx.random.random() < 0.7 else "out"))
    app.on("c")(lambda state, message, ctx: None)

    def look():
        while not over.is_set():
            seen.append(watch.status())

    thread = threading.Thread(target=look)
    thread.start()
    result = app.run(spread(GRAPH, 5000, ["a"]), Discarding(), watch=watch)
    over.set()
    thread.join()
    assert watch.status().events == result.events
    events = [status.events for status in seen if status]
    assert all(n <= result.events + 65_536 for n in events)
