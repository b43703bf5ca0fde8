"""Behaviours that are generators or async, timers, and messages that are tried again."""

import asyncio
from collections import Counter

import pytest

from flowstat.errors import RunError
from flowstat.read.files import parse_graph
from flowstat.run.app import App
from flowstat.run.behaviour import Emit, Retry
from flowstat.run.latencies import VirtualTime
from tests.tracing import record

GRAPH = "a/x -> b; a -> c; a/retry -> a; a/failed -> dead"


def rows_of(app, injections, **options):
    return record(lambda writer: app.run(injections, writer, **options))


def plain(state, message, ctx):
    ctx.emit(message.body, key="x")
    ctx.emit("bare")


def generator(state, message, ctx):
    yield Emit(message.body, "x")
    yield "bare"


async def coroutine(state, message, ctx):
    await asyncio.sleep(0)
    ctx.emit(message.body, key="x")
    await ctx.sleep(1.0)
    ctx.emit("bare")


async def async_generator(state, message, ctx):
    yield Emit(message.body, "x")
    await asyncio.sleep(0)
    yield "bare"


class Callable:
    async def __call__(self, state, message, ctx):
        plain(state, message, ctx)


@pytest.mark.parametrize("behaviour", [generator, coroutine, async_generator, Callable()])
@pytest.mark.parametrize("clock", [None, VirtualTime()])
def test_all_kinds_do_what_a_plain_function_does(behaviour, clock):
    traces = []
    for function in (plain, behaviour):
        app = App(parse_graph(GRAPH))
        app.on("a")(function)
        got = []
        app.on("c")(lambda state, message, ctx, got=got: got.append(message.body))
        result, rows = rows_of(app, [("a", "", k) for k in range(3)], clock=clock)
        assert got == [0, "bare", 1, "bare", 2, "bare"]
        assert not result.errors
        traces.append([{k: v for k, v in row.items() if not k.endswith("_at")} for row in rows.rows])
    assert traces[0] == traces[1]


def test_async_behaviours_run_where_a_loop_runs_already():
    async def notebook():
        app = App(parse_graph(GRAPH))
        app.on("a")(coroutine)
        return app.run([("a", "", None)])

    assert asyncio.run(notebook()).events == 4


@pytest.mark.parametrize("behaviour", [generator, coroutine, async_generator])
def test_an_exception_ends_the_event_and_sends_nothing(behaviour):
    app = App(parse_graph("a -> b"))

    @app.on("a")
    def a(state, message, ctx):
        yield 1
        raise ValueError("no")

    result, rows = rows_of(app, [("a", "", None)])
    assert (rows.column("status"), rows.column("sent")) == (["error"], [""])
    assert result.errors[0].exception == "ValueError"


@pytest.mark.parametrize("clock", [None, VirtualTime(start=10**18)])
def test_timers_go_off_in_their_order_when_all_else_is_done(clock):
    app = App(parse_graph("a -> b; a/late -> c; a/later -> d; b -> b2"))
    seen = []

    @app.on("a")
    def a(state, message, ctx):
        ctx.after(5, "later", "second")
        ctx.after(0.5, "late", "first")
        ctx.after(5, "late", "third")
        ctx.emit()

    for node in ("b", "b2", "c", "d"):
        app.on(node)(lambda state, message, ctx: seen.append((message.node, message.body)))
    result, rows = rows_of(app, [("a", "", None), ("a", "", None)], clock=clock)
    once = [("b", None), ("c", "first"), ("d", "second"), ("b", None)]
    # `a` without a key goes to b only, `late` to b as well: the arrow without a key takes every key.
    assert Counter(node for node, _ in seen) == {"b": 8, "c": 4, "d": 2}
    assert [s for s in seen if s[0] != "b"][:3] == [("c", "first"), ("d", "second"), ("c", "third")]
    assert rows.rows[0]["sent"] == "b*4 c*2 d"
    assert result.runs == 2
    assert once
    if clock:
        late = [r for r in rows.rows if r["name"] == "c"]
        assert [(r["started_at"] - r["sent_at"]).total_seconds() for r in late] == [0.5, 5, 0.5, 5]


def test_virtual_time_passes_and_an_hour_takes_no_time():
    app = App(parse_graph("tick -> tick; tick -> work"))
    times = []

    @app.on("tick")
    def tick(state, message, ctx):
        times.append(ctx.now)
        if len(times) < 3600:
            ctx.after(1.0)

    result, _ = rows_of(app, [("tick", "", None)], clock=VirtualTime(start=7))
    assert times == [7 + k * 10**9 for k in range(3600)]
    assert result.events == 3600 + 3599


@pytest.mark.parametrize("wait", [-1, float("nan"), float("inf"), "5", None])
def test_a_wait_that_is_none_is_an_error_of_the_event(wait):
    app = App(parse_graph("a -> b"))
    app.on("a")(lambda state, message, ctx: ctx.after(wait))
    result, rows = rows_of(app, [("a", "", None)])
    assert rows.column("sent") == [""]
    assert "0 or more" in result.errors[0].traceback


@pytest.mark.parametrize("clock", [None, VirtualTime()])
def test_retries_are_arrows_that_are_seen_and_counted(clock):
    app = App(parse_graph(GRAPH))
    attempts = Counter()

    @app.on("a", retry=Retry(times=2, wait=1.0, factor=3.0))
    def a(state, message, ctx):
        attempts[message.body] += 1
        ctx.emit("nothing of this is sent")
        if message.body == "hopeless" or (message.body == "luckier" and attempts["luckier"] < 3):
            raise OSError("no")

    result, rows = rows_of(app, [("a", "", "fine"), ("a", "", "luckier"), ("a", "", "hopeless")], clock=clock)
    assert attempts == {"fine": 1, "luckier": 3, "hopeless": 3}
    at_a = [(r["trace_id"], r["status"], r["sent"], r["key"]) for r in rows.rows if r["name"] == "a"]
    assert sorted(at_a) == sorted([
        (1, "ok", "c", ""),
        *((2, "error", "a c", key) for key in ("", "retry")),
        (2, "ok", "c", "retry"),
        *((3, "error", "a c", key) for key in ("", "retry")),
        (3, "error", "c dead", "retry"),
    ])  # fmt: skip
    assert result.errors[0].events == 5
    if clock:
        third = [r for r in rows.rows if r["name"] == "a" and r["trace_id"] == 3]
        assert [(r["started_at"] - r["sent_at"]).total_seconds() for r in third] == [0, 1, 3]


def test_retries_need_an_arrow_and_a_policy_that_can_be_kept():
    app = App(parse_graph("a -> b"))
    with pytest.raises(RunError, match="write a/retry -> a; into the graph"):
        app.on("a", retry=Retry())(plain)
    for retry in (3, Retry(times=0), Retry(times=True), Retry(wait=-1), Retry(factor=0.5), Retry(wait=float("nan"))):
        with pytest.raises(RunError, match=r"retry|retries|retried"):
            app.on("a", retry=retry)(plain)
