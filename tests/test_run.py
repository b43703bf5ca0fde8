import asyncio
import signal
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowstat.errors import OutputError, RunError
from flowstat.read.canonical import open_writer
from flowstat.read.files import parse_graph
from flowstat.read.graph import Arrow, Graph
from flowstat.run import network as network_module
from flowstat.run.app import App
from flowstat.run.behaviour import Message
from flowstat.run.inject import spread
from flowstat.run.loop import Limits
from tests.interrupts import press
from tests.tracing import Rows, record


def rows_of(app, injections, **options):
    return record(lambda writer: app.run(injections, writer, **options))


def test_every_matching_arrow_gets_a_copy_and_overlapping_arrows_give_one():
    app = App(parse_graph("a/x.* -> b; a/#.y -> b; a/x.# -> c; a/z -> d;"))

    @app.on("a")
    def a(state, message, ctx):
        ctx.emit("body", key="x.y")

    seen = []
    for node in ("b", "c", "d"):
        app.on(node)(lambda state, message, ctx: seen.append(message))
    result, rows = rows_of(app, [("a", "", None)])
    assert seen == [Message("b", "x.y", "body", 1), Message("c", "x.y", "body", 1)]
    assert rows.column("sent") == ["b c", "", ""]
    assert rows.column("parent") == [None, "a", "a"]
    assert rows.column("parent_id") == [None, 1, 1]
    assert rows.column("key") == ["", "x.y", "x.y"]
    assert (result.events, result.runs, result.stopped, dict(result.dropped)) == (3, 1, None, {})


def test_a_node_without_a_behaviour_forwards_key_and_body_and_the_last_one_ends():
    body = object()
    app = App(parse_graph("a -> b; b/k -> c; b/other -> d; c -> e"))
    got = []
    app.on("c")(lambda state, message, ctx: got.append((message.key, message.body is body)))
    result, rows = rows_of(app, [("a", "k", body)])
    assert got == [("k", True)]
    assert rows.column("name") == ["a", "b", "c"]
    assert rows.column("status") == ["ok"] * 3
    assert not result.dropped


def test_what_no_arrow_takes_is_recorded_as_dropped():
    app = App(parse_graph("a/ok -> b; b/x -> c"))
    result, rows = rows_of(app, [("a", "ok", 1), ("a", "no", 2)])
    assert dict(result.dropped) == {("b", "ok"): 1, ("a", "no"): 1}
    assert rows.column("status") == ["ok", "ok", "dropped", "ok", "dropped"]
    assert rows.column("name") == ["a", "b", None, "a", None]
    assert rows.column("parent") == [None, "a", "b", None, "a"]
    assert rows.column("parent_id") == [None, 1, 2, None, 4]
    assert rows.column("span_id") == [1, 2, 3, 4, 5]
    assert rows.column("trace_id") == [1, 1, 1, 2, 2]
    assert rows.column("sent") == ["b", "", "", "", ""]
    assert (result.events, result.runs) == (3, 2)
    assert any("2 emits taken by no arrow" in said for said in result.sentences())


def test_several_emits_with_a_dropped_one_among_them():
    app = App(parse_graph("a/x -> b, c; a/y -> b"))

    @app.on("a")
    def a(state, message, ctx):
        for key in ("x", "nowhere", "y", "nowhere"):
            ctx.emit(key=key)

    result, rows = rows_of(app, [("a", "", None)])
    assert rows.column("sent")[0] == "b*2 c"
    assert [(r["status"], r["parent_id"], r["key"]) for r in rows.rows[1:3]] == [("dropped", 1, "nowhere")] * 2
    assert rows.column("name")[3:] == ["b", "c", "b"]
    assert rows.column("parent_id")[3:] == [1, 1, 1]
    assert dict(result.dropped) == {("a", "nowhere"): 2}


def test_emits_of_a_failed_event_do_not_happen_and_the_run_goes_on():
    app = App(parse_graph("a -> b"))

    @app.on("a")
    def a(state, message, ctx):
        ctx.emit(message.body)
        if message.body % 2:
            raise ValueError(f"odd {message.body}")

    result, rows = rows_of(app, [("a", "", n) for n in range(4)])
    assert rows.column("status") == ["ok", "ok", "error", "ok", "ok", "error"]
    assert rows.column("sent") == ["b", "", "", "b", "", ""]
    (failure,) = result.errors
    assert (failure.node, failure.exception, failure.events) == ("a", "ValueError", 2)
    assert failure.traceback.endswith("ValueError: odd 1")
    assert "loop.py" not in failure.traceback
    assert any("2 events ended with an exception" in said for said in result.sentences())
    assert result.to_dict()["errors"][0]["events"] == 2


def test_state_is_made_once_per_run_of_the_loop():
    app = App(parse_graph("a"))
    states = []

    @app.on("a", state=list)
    def a(state, message, ctx):
        state.append(message.body)
        states.append(state)

    app.run([("a", "", 1), ("a", "", 2)])
    assert states[-1] == [1, 2]
    app.run([("a", "", 3)])
    assert states[-1] == [3]
    plain = App(parse_graph("a"))
    plain.on("a")(lambda state, message, ctx: states.append(state))
    plain.run([("a", "", 1)])
    assert states[-1] is None


def test_a_state_that_cannot_be_made():
    app = App(parse_graph("a"))
    app.on("a", state=lambda: {}["x"])(lambda state, message, ctx: None)
    with pytest.raises(RunError, match="can't make the state of a: KeyError"):
        app.run([])


def test_chance_comes_from_the_seed():
    def draws(seed):
        app = App(parse_graph("a"), seed=seed)
        drawn = []
        app.on("a")(lambda state, message, ctx: drawn.append(ctx.random.random()))
        app.run([("a", "", None)] * 3)
        return drawn

    assert draws(1) == draws(1) != draws(2)


def test_a_clock_gives_times_and_without_one_there_are_none():
    ticks = iter(range(10**18, 2 * 10**18, 1000))
    app = App(parse_graph("a/x -> b; a/x -> b"))
    nows = []

    @app.on("a")
    def a(state, message, ctx):
        nows.append(ctx.now)
        ctx.emit(key="x")
        ctx.emit(key="lost")

    _, rows = rows_of(app, [("a", "", None)], clock=lambda: next(ticks))
    times = [[None if t is None else t.value - 10**18 for t in rows.column(c)] for c in rows.times]
    assert times == [[0, 3000, 3000], [1000, None, 4000], [3000, None, 5000]]
    assert nows == [10**18 + 2000]
    _, rows = rows_of(app, [("a", "", None)])
    assert all(set(rows.column(c)) == {None} for c in rows.times)
    assert nows[-1] is None


def test_max_events_ends_a_closed_loop_with_the_rest_pending():
    app = App(parse_graph("a -> b, b2; b -> a; b2 -> a"))
    result, rows = rows_of(app, [("a", "", None)], limits=Limits(max_events=1000, batch_rows=64))
    assert result.events == 1000
    assert "max_events" in result.stopped
    counts = Counter(rows.column("status"))
    assert counts == {"ok": 1000, "pending": sum(result.pending.values())}
    assert list(result.pending.values()) == sorted(result.pending.values(), reverse=True)
    # Complete: every message that was sent has its row, under its sender.
    sent = Counter()
    for row in rows.rows:
        for part in row["sent"].split():
            target, _, times = part.partition("*")
            sent[row["span_id"], target] += int(times or 1)
    assert sent == Counter((r["parent_id"], r["name"]) for r in rows.rows[1:])


def test_max_events_that_are_just_enough_stop_nothing():
    app = App(parse_graph("a -> b"))
    assert app.run([("a", "", None)], limits=Limits(max_events=2)).stopped is None
    result = app.run([("a", "", None)] * 2, limits=Limits(max_events=2))
    assert result.pending == {"a": 1}


def test_dropped_emits_are_no_events():
    app = App(parse_graph("a/x -> b"))
    result, rows = rows_of(app, [("a", "y", None)] * 10, limits=Limits(max_events=7, batch_rows=3))
    assert (result.events, dict(result.dropped), dict(result.pending)) == (7, {("a", "y"): 7}, {"a": 1})
    assert Counter(rows.column("status")) == {"ok": 7, "dropped": 7, "pending": 1}


def test_a_message_storm_ends_at_the_queue_bound():
    app = App(parse_graph("a -> a, b; b -> a, c"))
    result, rows = rows_of(app, [("a", "", None)], limits=Limits(max_queue=100))
    assert "max_queue" in result.stopped
    assert "message storm" in result.stopped
    assert 100 < sum(result.pending.values()) <= 102
    assert rows.column("status").count("pending") == sum(result.pending.values())
    (said,) = [s for s in result.sentences() if "waiting at" in s]
    assert next(iter(result.pending)) in said


def test_one_event_that_emits_without_end():
    app = App(parse_graph("a -> b"))

    @app.on("a")
    def a(state, message, ctx):
        while True:
            ctx.emit()

    result = app.run([("a", "", None)], limits=Limits(max_queue=100))
    assert "more than 100 times" in result.errors[0].traceback
    assert "message storm" in result.stopped


def test_injections_are_pulled_one_by_one():
    taken = []

    def injections():
        for n in range(10**9):
            taken.append(n)
            yield "a", "", n

    app = App(parse_graph("a -> b -> c"))
    seen = []
    app.on("c")(lambda state, message, ctx: seen.append((message.run, len(taken))))
    result = app.run(injections(), limits=Limits(max_events=9))
    assert seen == [(1, 1), (2, 2), (3, 3)]
    assert result.pending == {"a": 1}


def test_progress_is_told_once_a_batch():
    told = []
    app = App(parse_graph("a -> b"))
    app.run([("a", "", None)] * 10, limits=Limits(batch_rows=6), progress=lambda *args: told.append(args))
    assert told == [(6, 4, 1), (12, 7, 1), (18, 10, 1)]


def test_ctrl_c_ends_the_run_after_the_event():
    app = App(parse_graph("a -> b, b2; b -> a; b2 -> a"))
    handled = []

    @app.on("b")
    def b(state, message, ctx):
        handled.append(message)
        if len(handled) == 5:
            press()
        ctx.emit()

    before = signal.getsignal(signal.SIGINT)
    result, rows = rows_of(app, [("a", "", None)])
    assert signal.getsignal(signal.SIGINT) is before
    assert result.interrupted
    assert result.stopped == "interrupted."
    assert (rows.rows[result.events - 1]["name"], rows.rows[result.events - 1]["sent"]) == ("b", "a")
    assert rows.column("status") == ["ok"] * result.events + ["pending"] * sum(result.pending.values())


def test_a_second_ctrl_c_ends_it_in_the_event_whose_message_stays_pending():
    app = App(parse_graph("a -> b -> c"))

    @app.on("b")
    def b(state, message, ctx):
        ctx.emit()
        while True:
            signal.raise_signal(signal.SIGINT)

    result, rows = rows_of(app, [("a", "", None)])
    assert result.interrupted
    assert [(r["name"], r["status"]) for r in rows.rows] == [("a", "ok"), ("b", "pending")]


def test_ctrl_c_while_waiting_for_an_injection():
    def injections():
        yield "a", "", None
        press()
        pytest.fail("not reached")

    result, rows = rows_of(App(parse_graph("a")), injections())
    assert result.interrupted
    assert rows.column("status") == ["ok"]


@pytest.mark.parametrize("kind", [SystemExit, MemoryError, GeneratorExit, asyncio.CancelledError])
def test_every_exception_of_a_behaviour_ends_its_event_and_not_the_run(kind):
    app = App(parse_graph("a -> b"))

    @app.on("b")
    def b(state, message, ctx):
        if message.run == 2:
            raise kind

    result, rows = rows_of(app, [("a", "", None)] * 3)
    assert [(e.node, e.exception, e.events) for e in result.errors] == [("b", kind.__name__, 1)]
    assert rows.column("status") == ["ok", "ok", "ok", "error", "ok", "ok"]


def test_the_first_batches_are_small():
    app = App(parse_graph("a"))
    _, rows = rows_of(app, [("a", "", None)] * 2000, limits=Limits(batch_rows=600))
    assert rows.sizes == [256, 512, 600, 600, 32]


def test_an_emit_after_the_behaviour_returned():
    app = App(parse_graph("a -> b -> a"))
    kept = []
    app.on("a")(lambda state, message, ctx: kept.append(ctx) or ctx.emit())
    app.on("b")(lambda state, message, ctx: kept[0].emit())
    rows = Rows()
    with pytest.raises(RunError, match="came after its behaviour had returned"):
        app.run([("a", "", None)], rows)
    assert rows.column("status") == ["ok", "ok"]


def test_a_key_that_is_no_text_fails_the_event():
    app = App(parse_graph("a -> b"))

    @app.on("a")
    def a(state, message, ctx):
        ctx.emit(key=message.body)

    result = app.run([("a", "", key) for key in (1, None, ["x"], "\ud800")])
    assert {(e.exception, e.events) for e in result.errors} == {("TypeError", 3), ("ValueError", 1)}


@pytest.mark.parametrize(
    ("injection", "message"),
    [
        (("b", "", 1), "the graph has no node 'b'"),
        (("oder", "", 1), "is it 'order'"),
        ((1, "", 1), "a node's name is a text"),
        ((["order"], "", 1), "a node's name is a text"),
        (("order", 1, 1), "a topic key is a text"),
        (("order", "\ud800", 1), "not valid text"),
        ("order", "an injection is"),
        (7, "an injection is"),
    ],
)
def test_a_wrong_injection(injection, message):
    rows = Rows()
    with pytest.raises(RunError, match=message):
        App(parse_graph("order")).run([("order", "", 1), injection], rows)
    assert len(rows.rows) == 1


@pytest.mark.parametrize("limits", [{"max_events": 0}, {"max_queue": -1}, {"batch_rows": 0}, {"max_events": 1.5}])
def test_wrong_limits(limits):
    with pytest.raises(RunError, match=r"whole number of at least 1"):
        Limits(**limits)


def test_ties_are_checked():
    app = App(parse_graph("order -> pay"))
    app.on("pay")(lambda state, message, ctx: None)
    with pytest.raises(RunError, match="no node 'ordr': is it 'order'"):
        app.on("ordr")(lambda state, message, ctx: None)
    with pytest.raises(RunError, match="two behaviours for the node pay"):
        app.on("pay")(lambda state, message, ctx: None)
    with pytest.raises(RunError, match=r"takes \(state, message\)"):
        app.on("order")(lambda state, message: None)
    with pytest.raises(RunError, match="not a function"):
        app.on("order")(3)
    with pytest.raises(RunError, match="state=dict"):
        app.on("order", state={})(lambda state, message, ctx: None)


def test_components_are_named():
    result = App(parse_graph("[ python sensor.py ] -> a; a -> [ gzip -c ]")).run([("a", "", 1)], components=False)
    assert result.components == ("[ python sensor.py ]", "[ gzip -c ]")
    assert any("2 components of the graph not started: [ python sensor.py ]" in s for s in result.sentences())


def test_counts_are_bounded_and_the_rest_is_counted(monkeypatch):
    monkeypatch.setattr("flowstat.run.tally.KEPT", 3)
    app = App(parse_graph("a/x -> b"))

    @app.on("a")
    def a(state, message, ctx):
        if message.body % 2:
            raise type(f"Error{message.body}", (Exception,), {})
        ctx.emit(key=str(message.body))

    result = app.run([("a", "", n) for n in range(20)])
    assert (len(result.dropped), result.dropped_others, len(result.errors), result.errors_others) == (3, 7, 3, 7)


def test_keys_without_number_keep_memory_bounded_and_rows_right(monkeypatch):
    monkeypatch.setattr(network_module, "KEPT", 10)
    made = []
    monkeypatch.setattr(network_module, "Codes", lambda real=network_module.Codes: made.append(real()) or made[-1])
    app = App(parse_graph("a -> b, c; b/#.1 -> a; c -> d"))

    @app.on("a")
    def a(state, message, ctx):
        for k in range(message.body % 3):
            ctx.emit(message.body - 1, key=f"k{message.body}.{k}")

    injections = [("a", f"start{n}", n) for n in range(50)]
    result, small = rows_of(app, injections, limits=Limits(batch_rows=7))
    assert len(made) > 5
    assert max(len(codes.name) for codes in made) < 40
    _, large = rows_of(app, injections)
    assert small.rows == large.rows
    assert result.events == sum(status == "ok" for status in large.column("status"))


@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=6), st.integers(1, 9), st.data())
def test_any_small_program_gives_a_tree_of_rows(nodes, batch_rows, data):
    """Every message sent has one row under its sender, and every row but the injected ones was sent."""
    names = ["a", "b", "c", "d"]
    word = st.sampled_from(["", "x", "y", "x.y"])
    name, pattern = st.sampled_from(names), st.sampled_from(["#", "x", "*.y", "x.#"])
    arrows = data.draw(st.lists(st.builds(Arrow, name, pattern, name, st.none())))
    emits = {node: data.draw(st.lists(word, max_size=3)) for node in names}
    app = App(Graph.of(arrows, nodes=names))
    for node in data.draw(st.sets(name)):

        @app.on(node)
        def handle(state, message, ctx):
            for key in emits[ctx.node]:
                ctx.emit(key=key)

    result, rows = rows_of(
        app, [(n, "x", None) for n in nodes], limits=Limits(max_events=40, max_queue=20, batch_rows=batch_rows)
    )
    assert rows.column("span_id") == list(range(1, len(rows.rows) + 1))
    sent = Counter()
    for row in rows.rows:
        for part in row["sent"].split():
            target, _, times = part.partition("*")
            sent[row["span_id"], target] += int(times or 1)
    taken = Counter((r["parent_id"], r["name"]) for r in rows.rows if r["name"] and r["parent_id"])
    assert sent == taken
    runs = {r["span_id"]: r["trace_id"] for r in rows.rows}
    assert all(runs[r["parent_id"]] == r["trace_id"] for r in rows.rows if r["parent_id"])
    assert all(r["parent_id"] < r["span_id"] for r in rows.rows if r["parent_id"])
    assert result.events == sum(r["status"] in ("ok", "error") for r in rows.rows)
    assert (result.stopped is None) == ("pending" not in rows.column("status"))


def test_spread_takes_turns():
    graph = parse_graph("a -> c; b -> c")
    assert [node for node, _, _ in spread(graph, 5)] == ["a", "b", "a", "b", "a"]
    assert list(spread(graph, 1, ["c"])) == [("c", "", None)]
    assert list(spread(graph, 0)) == []
    for arguments, message in [((-1,), "0 or more"), ((1, ["z"]), "no node 'z'"), ((1, []), "no node to start")]:
        with pytest.raises(RunError, match=message):
            spread(graph, *arguments)


def test_a_write_that_fails_ends_the_run_and_leaves_what_was_written(tmp_path, monkeypatch):
    import pyarrow.parquet as pq

    from flowstat.read.traces import read_traces

    real, calls = pq.write_table, []

    def full(*args, **kwargs):
        calls.append(args)
        if len(calls) > 2:
            raise OSError(28, "No space left on device")
        real(*args, **kwargs)

    monkeypatch.setattr(pq, "write_table", full)
    path = tmp_path / "t.parquet"
    with pytest.raises(OutputError, match=r"t\.parquet: .*No space left"), open_writer(path) as writer:
        App(parse_graph("a -> a")).run([("a", "", None)], writer, limits=Limits(batch_rows=10))
    assert len(calls) == 3
    assert [len(batch) for batch in read_traces(path).batches()] == [10, 10]
