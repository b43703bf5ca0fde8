"""Many messages at a time: asyncio, pools, and virtual time."""

import asyncio
import os
import threading
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowstat.errors import RunError
from flowstat.read.files import parse_graph
from flowstat.run.app import App
from flowstat.run.behaviour import Emit, Retry
from flowstat.run.inject import spread
from flowstat.run.latencies import LatencyLaw, VirtualTime
from flowstat.run.loop import Limits
from flowstat.run.pool import Together
from tests.tracing import record

GRAPH = parse_graph("a -> b; b/again -> b; b/ok -> c; a/late -> d; b/retry -> b; b/failed -> e; a -> f")


def made(seed=5, wait=0.0):
    app = App(GRAPH, seed)

    @app.on("a")
    def a(state, message, ctx):
        yield Emit(message.body, "x")
        ctx.after(wait, "late", message.body)

    @app.on("b", state=Counter, retry=Retry(1))
    async def b(state, message, ctx):
        before = state[message.run]
        await ctx.sleep(ctx.random.random() * wait)
        # Nobody else has the state meanwhile.
        assert state[message.run] == before
        state[message.run] += 1
        if ctx.random.random() < 0.1:
            raise OSError("no")
        ctx.emit(message.body, "again" if ctx.random.random() < 0.4 else "ok")

    return app


def shape(rows):
    """Return what happened, whatever came first: how often each node handled what, in each run."""
    return Counter((r["trace_id"], r["parent"], r["name"], r["key"], r["sent"], r["status"]) for r in rows.rows)


def consistent(rows):
    """Check that the rows are trees whose events sent what came of them."""
    by_id = {r["span_id"]: r for r in rows.rows}
    assert [r["span_id"] for r in rows.rows] == list(range(1, len(rows.rows) + 1))
    sent = Counter()
    for r in rows.rows:
        if r["parent_id"] is not None:
            parent = by_id[r["parent_id"]]
            assert (parent["name"], parent["trace_id"]) == (r["parent"], r["trace_id"])
            assert parent["span_id"] < r["span_id"]
            sent[r["parent_id"]] += r["status"] != "dropped"
    for r in rows.rows:
        told = sum(int(part.partition("*")[2] or 1) for part in r["sent"].split())
        assert told == sent[r["span_id"]]


WAYS = {
    "threads": (Together(at_once=7), None),
    "real time": (Together(at_once=3, workers=2), time.time_ns),
    "processes": (Together(pool="process", workers=2), None),
    "no pool": (Together(pool=None), None),
    "virtual": (Together(), VirtualTime(LatencyLaw(1, 1), every=0.25)),
}


@pytest.mark.parametrize("way", WAYS)
def test_whatever_comes_first_the_same_happens(way):
    """Chance is of each message's own: the schedule changes the order, and nothing else."""
    together, clock = WAYS[way]
    wait = 2.0 if way == "virtual" else 0.0005
    result, rows = record(
        lambda writer: made(wait=wait).run(spread(GRAPH, 60), writer, clock=clock, contemporaneously=together)
    )
    _, reference = record(
        lambda writer: made(wait=1.0).run(spread(GRAPH, 60), writer, clock=VirtualTime(), contemporaneously=True)
    )
    assert shape(rows) == shape(reference)
    assert result.runs == 60
    assert {e.exception for e in result.errors} == {"OSError"}
    consistent(rows)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**40), st.floats(0.01, 3), st.floats(0, 3), st.integers(1, 20))
def test_virtual_time_is_the_same_again(seed, mean, sd, at_once):
    """Random schedules of a small system, by the latencies: a seed gives the same bytes, and its invariants hold."""

    def once():
        return record(
            lambda writer: made(seed, 1.0).run(
                spread(GRAPH, 12),
                writer,
                clock=VirtualTime(LatencyLaw(mean, sd), every=LatencyLaw(mean, sd)),
                contemporaneously=Together(at_once=at_once),
            )
        )[1]

    rows = once()
    assert rows.rows == once().rows
    consistent(rows)
    times = [r["ended_at"] for r in rows.rows]
    assert times == sorted(times)


def test_plain_functions_run_in_threads_and_processes():
    met = threading.Barrier(3)
    app = App(parse_graph("a -> b"))

    @app.on("a")
    def a(state, message, ctx):
        met.wait(timeout=30)  # passes only if three are here at once

    assert app.run([("a", "", k) for k in range(9)], contemporaneously=Together(workers=3)).errors == ()
    app = App(parse_graph("a -> b"))
    seen = []
    app.on("a", state=dict)(_count)
    app.on("b")(_take(seen))
    app.run([("a", "", k) for k in range(5)], contemporaneously=Together(pool="process", workers=2))
    app = App(parse_graph("a -> b"))
    app.on("a", state=dict)(_count)
    seen.clear()
    app.on("b")(_take(seen))
    app.run([("a", "", k) for k in range(5)], contemporaneously=Together(pool=None))
    assert [number for number, _ in seen] == [1, 2, 3, 4, 5]
    assert {process for _, process in seen} == {os.getpid()}


def _count(state, message, ctx):
    state["number"] = state.get("number", 0) + 1
    ctx.emit((state["number"], os.getpid()))


def _take(seen):
    async def take(state, message, ctx):
        seen.append(message.body)

    return take


def test_states_come_back_from_processes():
    app, seen = App(parse_graph("a -> b")), []
    app.on("a", state=dict)(_count)
    app.on("b")(_take(seen))
    app.run([("a", "", k) for k in range(20)], contemporaneously=Together(pool="process", workers=2))
    assert sorted(number for number, _ in seen) == list(range(1, 21))
    assert os.getpid() not in {process for _, process in seen}


def test_async_behaviours_wait_together():
    app = App(parse_graph("a -> b"))
    together = []

    @app.on("a")
    async def a(state, message, ctx):
        together.append(1)
        await asyncio.sleep(1)
        assert len(together) == 50

    clock = VirtualTime()
    result, rows = record(
        lambda writer: app.run(
            [("a", "", k) for k in range(50)], writer, clock=clock, contemporaneously=Together(at_once=50)
        )
    )
    assert not result.errors
    assert {(r["ended_at"] - r["started_at"]).total_seconds() for r in rows.rows if r["name"] == "a"} == {1}


@pytest.mark.parametrize("clock", [None, VirtualTime(1.0)])
def test_a_storm_is_stopped_in_bounded_memory(clock):
    app = App(parse_graph("a -> a; a -> b; b -> a"))
    result, rows = record(
        lambda writer: app.run(
            spread(app.graph, 1, ["a"]), writer, clock=clock, limits=Limits(max_queue=200), contemporaneously=True
        )
    )
    assert "message storm" in result.stopped
    assert 200 <= sum(result.pending.values()) < 210
    assert rows.column("status").count("pending") == sum(result.pending.values())
    limited = app.run(spread(app.graph, 1, ["a"]), clock=clock, limits=Limits(max_events=50), contemporaneously=True)
    assert "max_events" in limited.stopped
    assert limited.events == 50


def test_what_goes_wrong_outside_of_behaviours_ends_the_run():
    app = App(parse_graph("a -> b"))
    with pytest.raises(RunError, match="no node 'x'"):
        app.run([("a", "", 1), ("x", "", 1)], contemporaneously=True)

    def broken():
        yield ("a", "", 1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        app.run(broken(), contemporaneously=True)
    with pytest.raises(RunError, match="one at a time"):
        app.run([], contemporaneously=True, journal="never-made")
    for wrong in ({"at_once": 0}, {"workers": True}, {"pool": "fiber"}):
        with pytest.raises(RunError):
            Together(**wrong)


def test_an_emit_that_comes_too_late_is_an_error_where_it_is_made():
    app, errors = App(parse_graph("a -> b")), []

    @app.on("a")
    async def a(state, message, ctx):
        async def later():
            await asyncio.sleep(0)
            try:
                ctx.emit()
            except RunError as error:
                errors.append(str(error))

        app.task = asyncio.ensure_future(later())

    @app.on("b")
    async def b(state, message, ctx): ...

    app.run([("a", "", 1), ("b", "", 1)], contemporaneously=True)
    assert not errors or "came after its behaviour had returned" in errors[0]


def test_it_runs_where_a_loop_runs_already():
    async def notebook():
        return made(wait=0.0).run(spread(GRAPH, 3), contemporaneously=True)

    assert asyncio.run(notebook()).runs == 3
