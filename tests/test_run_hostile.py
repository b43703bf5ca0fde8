"""Runs under odd circumstances: each ends clearly, and nothing is lost, made up, or left half done."""

import asyncio
import math
import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest

from flowstat.errors import OutputError, RunError
from flowstat.read.canonical import open_writer
from flowstat.read.files import parse_graph
from flowstat.run import journal_writer
from flowstat.run.app import App
from flowstat.run.behaviour import Retry
from flowstat.run.digest import digest
from flowstat.run.inject import Stream, lines_of, spread
from flowstat.run.journal import read_journal
from flowstat.run.journal_writer import JournalWriter
from flowstat.run.latencies import LatencyLaw, VirtualTime
from flowstat.run.loop import Limits
from flowstat.run.pool import Together
from flowstat.run.virtual_loop import VirtualLoop
from tests.interrupts import press
from tests.tracing import record

GRAPH = parse_graph("a -> b; a/t -> b; b -> c")
WAYS = [False, Together(pool=None), Together(pool="thread"), Together(pool="process")]
YEAR = 365.25 * 86_400


def app_with(function, node="a", graph=GRAPH, **options):
    app = App(graph)
    app.on(node, **options)(function)
    return app


# Times that no trace can keep.


@pytest.mark.parametrize("wait", [1e300, 10**400, 1e12, -(10**400), math.inf, math.nan, -1, "1", None])
@pytest.mark.parametrize("clock", [None, VirtualTime()])
def test_a_wait_that_is_none_fails_its_event(wait, clock):
    result = app_with(lambda state, message, ctx: ctx.after(wait, "t")).run([("a", "", 1)], clock=clock)
    assert [(e.node, e.exception) for e in result.errors] == [("a", "RunError")]
    assert "a time to wait is a number of seconds" in result.errors[0].traceback


@pytest.mark.parametrize("together", [False, True])
def test_time_that_ends_stops_the_run_with_its_trace(together):
    """Timers of 100 years each: the third comes after 2262."""
    app = App(parse_graph("a -> a"))
    app.on("a")(lambda state, message, ctx: ctx.after(100 * YEAR))
    result, rows = record(
        lambda writer: app.run([("a", "", 1)], writer, clock=VirtualTime(), contemporaneously=together)
    )
    assert "2262" in result.stopped
    assert result.events == 3
    assert rows.column("status") == ["ok", "ok", "ok", "pending"]
    late = App(GRAPH).run(spread(GRAPH, 9, ["a"]), clock=VirtualTime(every=100 * YEAR))
    assert "2262" in late.stopped
    assert late.runs == 3


def test_timers_of_years_go_off_in_a_virtual_loop():
    """A float has no nanoseconds left after half a year."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(asyncio.sleep(50 * YEAR + 0.1))
        assert runner.get_loop().time() == pytest.approx(50 * YEAR + 0.1, rel=1e-15)


@pytest.mark.parametrize("law", [{"mean": 1e300}, {"values": (1e11,)}, {"mean": 1e-300, "sd": 1.0}, {"mean": 1e10}])
def test_latencies_that_are_too_long(law):
    with pytest.raises(RunError):
        LatencyLaw(**law)


def test_draws_of_a_wide_law_stay_in_time():
    draw = LatencyLaw(mean=4e9, sd=4e15).delay(random.Random(1))
    assert all(0 <= draw() <= 4 * 10**18 for _ in range(10_000))


# Retries.


def fail(state, message, ctx):
    raise ValueError


def test_two_thousand_retries_without_a_wait():
    """The power of the factor is no float any more."""
    app = app_with(fail, graph=parse_graph("a/retry -> a; a/failed -> z"), retry=Retry(times=2000))
    result = app.run([("a", "", 1)])
    assert [(e.exception, e.events) for e in result.errors] == [("ValueError", 2001)]


@pytest.mark.parametrize(
    "retry", [Retry(times=2000, wait=1.0), Retry(wait=1e10), Retry(key=5), Retry(then=5), Retry(then="\ud800")]
)
def test_a_policy_that_can_not_be_kept(retry):
    with pytest.raises(RunError):
        app_with(fail, graph=parse_graph("a -> a"), retry=retry)


# Behaviours that end in odd ways.


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("error", [SystemExit, GeneratorExit, StopIteration, asyncio.CancelledError, ValueError])
def test_whatever_a_behaviour_raises_ends_its_event_alone(way, error):
    def broken(state, message, ctx):
        raise error

    result = app_with(broken).run([("a", "", 1), ("b", "", 1)], contemporaneously=way)
    assert (result.events, result.runs) == (3, 2)
    # These have a meaning of their own to who waits for a future.
    other = "RuntimeError" if way and error not in (SystemExit, ValueError) else error.__name__
    assert result.errors[0].exception == other


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("error", [SystemExit, GeneratorExit, asyncio.CancelledError])
def test_whatever_an_async_behaviour_raises_ends_its_event_alone(together, error):
    async def broken(state, message, ctx):
        raise error

    result = app_with(broken).run([("a", "", 1), ("b", "", 1)], contemporaneously=together)
    assert (result.events, result.errors[0].exception) == (3, error.__name__)


class Picky(Exception):
    """Does not come back from pickle."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def test_an_exception_that_pickle_does_not_bring_back_does_not_break_the_pool():
    def broken(state, message, ctx):
        raise Picky(1, 2)

    result = app_with(broken).run([("a", "", k) for k in range(3)], contemporaneously=Together(pool="process"))
    assert [(e.exception, e.events) for e in result.errors] == [("RuntimeError", 3)]
    assert "Picky: 1 and 2" in result.errors[0].traceback


def test_a_process_of_the_pool_that_dies_ends_the_run():
    app = app_with(lambda state, message, ctx: os._exit(3))
    with pytest.raises(RunError, match="a process of the pool was ended"):
        app.run([("a", "", 1)], contemporaneously=Together(pool="process"))


def test_a_behaviour_that_cancels_the_run_is_told():
    async def cancel(state, message, ctx):
        for task in asyncio.all_tasks():
            task.cancel()
        await asyncio.sleep(0)

    with pytest.raises(RunError, match="cancel"):
        app_with(cancel).run([("a", "", 1)], contemporaneously=True)


@pytest.mark.parametrize("way", WAYS)
def test_an_event_that_emits_without_end_is_a_storm(way):
    def flood(state, message, ctx):
        while True:
            ctx.emit()

    result = app_with(flood).run([("a", "", 1)], limits=Limits(max_queue=100), contemporaneously=way)
    assert "message storm" in result.stopped
    assert result.errors[0].exception == "Flood"


@pytest.mark.parametrize("way", WAYS[:3])
@pytest.mark.parametrize("clock", [None, VirtualTime()])
def test_what_is_never_awaited_is_an_error(way, clock):
    async def later(message):
        raise AssertionError

    def generator():
        yield 1

    for returned in (lambda *_: later(1), lambda *_: generator()):
        result = app_with(returned).run([("a", "", 1)], clock=clock, contemporaneously=way)
        assert [e.exception for e in result.errors] == ["RunError"]
    assert not app_with(lambda *_: [1]).run([("a", "", 1)], clock=clock, contemporaneously=way).errors


def test_chance_of_each_run_is_its_own_whatever_the_seed():
    app, drawn = App(GRAPH, seed=10**80), set()
    app.on("a")(lambda state, message, ctx: drawn.add(ctx.random.random()))
    app.run(spread(GRAPH, 5, ["a"]), contemporaneously=True)
    assert len(drawn) == 5


def test_an_async_behaviour_that_never_ends_is_ended_by_ctrl_c():
    async def wait(state, message, ctx):
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        await asyncio.Event().wait()

    result = app_with(wait).run([("a", "", 1)], contemporaneously=True, clock=VirtualTime())
    assert (result.interrupted, result.pending) == (True, {"a": 1})


# Journals.


@pytest.mark.parametrize("clock", [None, VirtualTime(), VirtualTime(every=1.0), time.time_ns])
@pytest.mark.parametrize("bad", [None, ("x", "", 1), ("a", 5, 1), (["a"], "", 1), ("a", "\ud800", 1), "abc", ("a",)])
def test_a_wrong_message_is_not_accepted(tmp_path, clock, bad):
    """And it is no end of the messages either."""
    with pytest.raises(RunError, match="inject"):
        App(GRAPH).run([("a", "", 1), ("a", "", 2), bad, ("a", "", 3)], journal=tmp_path / "j", clock=clock)
    with pytest.raises(RunError, match="inject"):
        App(GRAPH).run([("a", "", 1), bad], contemporaneously=True)
    assert 1 <= len(read_journal(tmp_path / "j").entries) <= 2
    assert App(GRAPH).replay(tmp_path / "j").differences == ()


def deep(number):
    body = []
    for _ in range(number):
        body = [body]
    return body


def itself():
    body = []
    body.append(body)
    return body


@pytest.mark.parametrize("body", [deep(100_000), itself()])
def test_a_body_without_bottom_is_refused(tmp_path, body):
    with pytest.raises(RunError, match="nested too deeply"):
        App(GRAPH).run([("a", "", body)], journal=tmp_path / "j")
    with pytest.raises(RunError, match="nested too deeply"):
        digest(deep(100_000))
    assert not (tmp_path / "j").exists()


def test_a_body_that_is_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(journal_writer, "LARGEST", 1000)
    with pytest.raises(RunError, match="and fewer than 1,000 are kept"):
        App(GRAPH).run([("a", "", 1), ("a", "", "x" * 1000)], journal=tmp_path / "j")
    assert len(read_journal(tmp_path / "j").entries) == 1


def test_a_state_without_a_digest_is_told_before_anything_is_handled(tmp_path):
    app, seen = App(GRAPH), []
    app.on("a", state=threading.Lock)(lambda state, message, ctx: seen.append(1))
    with pytest.raises(RunError, match="no digest"):
        app.run([("a", "", 1)], journal=tmp_path / "j")
    assert not seen
    assert not (tmp_path / "j").exists()


@pytest.mark.parametrize("what", [{"seed": 10**80}, {"seed": -(10**80)}, {"limits": Limits(max_events=10**30)}])
def test_numbers_of_any_size_come_back(tmp_path, what):
    app = App(parse_graph("a/0 -> a; a/1 -> b"), what.get("seed", 1))
    app.on("a", state=list)(lambda state, message, ctx: state.append(ctx.random.random()))
    app.run([("a", "", 1)], journal=tmp_path / "j", limits=what.get("limits"))
    assert app.replay(tmp_path / "j").differences == ()
    assert app.mirror(tmp_path / "j").compared == 1


def test_what_is_wrong_is_told_before_there_is_a_file(tmp_path):
    def no_state():
        raise ZeroDivisionError

    stateful = app_with(lambda state, message, ctx: None, state=no_state)
    wrong = [(App(GRAPH), VirtualTime({("a", "zz"): 1.0}), [("a", "", 1)]), (stateful, None, [("a", "", 1)])]
    wrong += [(App(GRAPH), None, [("zz", "", 1)])]
    for app, clock, injections in wrong:
        for ending in ("parquet", "jsonl"):
            path = tmp_path / f"t.{ending}"
            with pytest.raises(RunError), open_writer(path) as writer:
                app.run(injections, writer, clock=clock, journal=tmp_path / "j")
            assert not path.exists()
        assert not (tmp_path / "j").exists()


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_a_trace_is_kept_until_there_is_another(tmp_path, ending):
    path = tmp_path / f"t.{ending}"
    with open_writer(path) as writer:
        App(GRAPH).run([("a", "", 1)], writer)
    before = {p.name: p.read_bytes() for p in ([path] if path.is_file() else sorted(path.iterdir()))}
    with pytest.raises(RunError), open_writer(path, overwrite=True) as writer:
        App(GRAPH).run([("zz", "", 1)], writer)
    assert before == {p.name: p.read_bytes() for p in ([path] if path.is_file() else sorted(path.iterdir()))}
    with pytest.raises(RunError), open_writer(path, overwrite=True) as writer:
        App(GRAPH).run([("a", "", 1), ("b", "", 1), ("zz", "", 1)], writer)
    assert App(GRAPH).run([]).events == 0
    after = path.read_bytes() if path.is_file() else b"".join(p.read_bytes() for p in path.iterdir())
    assert after
    assert after not in before.values()


def chain(state=True):
    app = App(parse_graph("a -> b -> c -> d"))
    app.on("d", state=dict)(lambda state, message, ctx: state.update({message.body: True}))
    return app


@pytest.mark.parametrize("clock", [None, VirtualTime(1.0)])
def test_an_interrupt_while_the_journal_is_written_waits(tmp_path, monkeypatch, clock):
    """What was accepted is in the trace, too, if only as pending."""
    add = JournalWriter.add

    def interrupted(self, injection, *more):
        found = add(self, injection, *more)
        if injection[2] == 3:
            press()
        return found

    monkeypatch.setattr(JournalWriter, "add", interrupted)
    with open_writer(tmp_path / "t.jsonl") as writer:
        result = chain().run([("a", "", k) for k in range(9)], writer, clock=clock, journal=tmp_path / "j")
    assert (result.interrupted, result.pending) == (True, {"a": 1})
    with open_writer(tmp_path / "again.jsonl") as writer:
        again = chain().replay(tmp_path / "j", writer, against=tmp_path / "t.jsonl")
    assert again.differences == ()
    assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "t.jsonl").read_bytes()


def test_an_event_that_was_broken_off_accuses_nobody(tmp_path):
    """A second Ctrl-C ends the run within an event that has changed its state."""

    def pressed(state, message, ctx):
        state["begun"] = True
        for _ in range(2):
            press()

    result = app_with(pressed, state=dict).run([("a", "", 1)], journal=tmp_path / "j")
    assert (result.interrupted, result.pending) == (True, {"a": 1})
    assert app_with(pressed, state=dict).replay(tmp_path / "j").differences == ()


def test_a_second_interrupt_within_our_own_code_waits_for_the_event(tmp_path):
    """Here it comes while progress is told: no row may be half done."""

    def progress(events, runs, waiting):
        for _ in range(2):
            press()

    result, rows = record(lambda writer: App(GRAPH).run(spread(GRAPH, 1000, ["a"]), writer, progress=progress))
    assert result.interrupted
    assert len(rows.rows) == result.events + sum(result.pending.values())


# Replays.


def test_chance_without_a_state_shows_in_the_number_of_events(tmp_path):
    def made(seed):
        chance = random.Random(seed)
        app = App(parse_graph("a/again -> a; a/ok -> b"))
        app.on("a")(lambda state, message, ctx: ctx.emit(key="again" if chance.random() < 0.5 else "ok"))
        return app

    made(1).run(spread(GRAPH, 500, ["a"]), journal=tmp_path / "j")
    assert made(1).replay(tmp_path / "j").differences == ()
    (found,) = made(2).replay(tmp_path / "j").differences
    assert found.what == "the number of events"
    assert "The replay differs: the number of events was" in found.sentence()


@pytest.mark.parametrize("clock", [None, VirtualTime(every=1.0)])
def test_marked_states_are_compared_where_they_are(tmp_path, clock):
    def made(wrong_at):
        app, seen = App(GRAPH), []

        @app.on("c", state=dict)
        def c(state, message, ctx):
            seen.append(1)
            state["n"] = -1 if len(seen) == wrong_at else message.body

        return app

    made(0).run([("a", "", k) for k in range(50)], journal=tmp_path / "j", marks=10, clock=clock)
    assert [place for place, _ in read_journal(tmp_path / "j").marks] == [10, 20, 30, 40]
    assert made(0).replay(tmp_path / "j").differences == ()
    assert made(0).mirror(tmp_path / "j").compared == 5
    (found,) = made(20).replay(tmp_path / "j").differences
    assert (found.node, found.what) == ("c", "the state's digest after 20 messages from outside")
    with pytest.raises(RunError, match="the mirror's state of c is not that of the run, after 20 messages"):
        made(20).mirror(tmp_path / "j")


def recorded(tmp_path):
    with open_writer(tmp_path / "t.jsonl") as writer:
        App(GRAPH).run(spread(GRAPH, 10, ["a"]), writer, journal=tmp_path / "j")
    return (tmp_path / "t.jsonl").read_bytes().splitlines(keepends=True)


def test_a_trace_that_lacks_rows_differs_unless_the_run_was_killed(tmp_path):
    lines = recorded(tmp_path)
    short = tmp_path / "short.jsonl"
    for kept in (0, 5, 29):
        short.write_bytes(b"".join(lines[:kept]))
        found = App(GRAPH).replay(tmp_path / "j", against=short)
        assert (found.compared, [d.span for d in found.differences]) == (kept, [kept + 1])
    data = (tmp_path / "j").read_bytes()
    (tmp_path / "j").write_bytes(data[:-20])
    found = App(GRAPH).replay(tmp_path / "j", against=short)
    assert (found.differences, found.compared, found.left_over) == ((), 29, 1)
    assert found.sentences()[-1] == "The trace ends there, as the run was killed; the replay has 1 more."
    short.write_bytes(lines[0][:30])
    assert App(GRAPH).replay(tmp_path / "j", against=short).compared == 0
    (tmp_path / "none").mkdir()
    assert App(GRAPH).replay(tmp_path / "j", against=tmp_path / "none").compared == 0


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.jsonl", b"[1]\n"),
        ("t.jsonl", b'{"a": 1}\n'),
        ("t.jsonl", b"\xff\x00\n{}\n"),
        ("t.jsonl", b'{"trace_id":1,"span_id":-1,"sent":"","name":"a"}\n'),
        ("t.jsonl", b'{"trace_id":1,"span_id":"1","sent":"","name":"a"}\n'),
        ("t.csv", b"case,activity,time\n1,a,2020-01-01T00:00:00Z\n"),
        ("t.parquet", b"PAR1 and no more"),
    ],
)
def test_what_is_no_recorded_trace_is_refused(tmp_path, name, text):
    recorded(tmp_path)
    (tmp_path / name).write_bytes(text)
    with pytest.raises(RunError, match=r"can't read the recorded trace|no trace that a run recorded"):
        App(GRAPH).replay(tmp_path / "j", against=tmp_path / name)
    with pytest.raises(RunError, match="can't read the recorded trace"):
        App(GRAPH).replay(tmp_path / "j", against=tmp_path / "not there.parquet")


def test_the_one_that_came_too_early_is_named(tmp_path):
    """Two timers overtake each other: whoever set the wrong one is to be named."""
    graph = parse_graph("a -> x; b -> y")

    def made(waits):
        app = App(graph)
        for node, wait in waits.items():
            app.on(node)(lambda state, message, ctx, wait=wait: ctx.after(wait))
        return app

    with open_writer(tmp_path / "t.parquet") as writer:
        made({"a": 1, "b": 2}).run(
            [("a", "", 1), ("b", "", 1)], writer, clock=VirtualTime(every=0), journal=tmp_path / "j"
        )
    for waits, node in (({"a": 1, "b": 0.5}, "b"), ({"a": 3, "b": 2}, "a"), ({"a": 2, "b": 1}, "b")):
        found = made(waits).replay(tmp_path / "j", against=tmp_path / "t.parquet").differences[0]
        assert found.node == node, waits


# Mirrors.


def test_a_mirror_cuts_off_nothing_that_was_accepted(tmp_path):
    """A journal that is damaged in its midst is told, and left as it is."""
    chain().run([("a", "", k) for k in range(10)], journal=tmp_path / "j")
    data = bytearray((tmp_path / "j").read_bytes())
    data[data.index(b"\x96\xa1a") + 3] ^= 1
    (tmp_path / "j").write_bytes(data)
    with pytest.raises(RunError, match="is damaged at byte"):
        chain().mirror(tmp_path / "j")
    assert (tmp_path / "j").read_bytes() == data


def test_a_mirror_of_a_run_that_was_interrupted_accuses_nobody(tmp_path):
    app, seen = chain(), []

    @app.on("b")
    def b(state, message, ctx):
        seen.append(1)
        if len(seen) == 5:
            press()
        ctx.emit(message.body)

    result = app.run([("a", "", k) for k in range(10)], journal=tmp_path / "j")
    found = chain().mirror(tmp_path / "j")
    assert (result.events, found.run.events, found.interrupted, found.took_over) == (18, 20, True, False)
    assert any("was interrupted" in sentence for sentence in found.sentences())


# Messages that come when they come.


def test_timers_do_not_wait_for_a_stream():
    """The next message comes when the timer has gone off: a run that waited for it first would not end."""
    app, gone_off = App(GRAPH), threading.Event()
    app.on("a")(lambda state, message, ctx: ctx.after(0.01, "t"))
    app.on("b")(lambda state, message, ctx: gone_off.set())

    def slow():
        yield ("a", "", 1)
        assert gone_off.wait(60)
        yield ("c", "", 2)

    result = app.run(Stream(slow()), clock=time.time_ns)
    assert (result.events, result.errors) == (3, ())
    gone_off.clear()
    assert app.run(Stream(slow()), clock=time.time_ns, contemporaneously=True).events == 3
    with pytest.raises(RunError, match="no node 'zz'"):
        app.run(Stream([("zz", "", 1)]), clock=time.time_ns)
    assert App(GRAPH).run(Stream(spread(GRAPH, 5000, ["a"])), clock=time.time_ns).runs == 5000
    assert App(GRAPH).run(Stream(spread(GRAPH, 50, ["a"]))).runs == 50


def test_lines_of_a_pipe_are_whole():
    text = b"".join(b"%d %s\n" % (k, b"x" * (k * 37 % 70_000)) for k in range(300)) + b"last"
    reading, writing = os.pipe()

    def write():
        with open(writing, "wb", buffering=0) as file:
            for k in range(0, len(text), 50_001):
                file.write(text[k : k + 50_001])

    thread = threading.Thread(target=write)
    thread.start()
    assert list(lines_of(reading)) == text.splitlines(keepends=True)
    thread.join()
    os.close(reading)


def test_a_command_leaves_nothing_when_it_fails(tmp_path, run_flowstat):
    (tmp_path / "g.graph").write_text("a -> b; b -> c")
    graph, out = str(tmp_path / "g.graph"), str(tmp_path / "t.parquet")
    for wrong in (
        ("run", graph, "--clock", "virtual", "--latency", "a -> zz=1", "-o", out),
        ("run", graph, "--start", "zz", "-o", out),
        ("simulate", graph, "--start", "zz", "-o", out),
        ("run", graph, "--record", "both", "--contemporaneously", "5", "-o", out),
        ("replay", graph, graph, "-o", out),
        ("run", graph, "--record", "both", "-o", str(tmp_path / "t.journal")),
    ):
        code, _, said = run_flowstat(*wrong)
        assert code == 2, wrong
        assert "Traceback" not in said
        assert sorted(p.name for p in Path(tmp_path).iterdir()) == ["g.graph"], wrong
    with pytest.raises(OutputError, match="there already"):
        open_writer(tmp_path / "g.graph")
