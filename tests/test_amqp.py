"""What workers do with messages, without a broker: names, bodies, events, their record, and what comes twice."""

import asyncio
import gzip
import sys
from collections import deque
from time import time_ns

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp.commands import Exchange, Queue

from flowstat.errors import OutputError, RunError
from flowstat.estimate.counting import count
from flowstat.read.files import parse_graph
from flowstat.read.traces import read_traces
from flowstat.run.amqp import work
from flowstat.run.amqp_core import LONGEST_WAIT, Core
from flowstat.run.amqp_hand import Delivery, Hand
from flowstat.run.amqp_link import BROKER_LIMIT
from flowstat.run.amqp_locks import lock_of
from flowstat.run.amqp_names import Names
from flowstat.run.amqp_shards import Shards
from flowstat.run.amqp_thread import Thread
from flowstat.run.amqp_wire import (
    MOST_BYTES,
    PARCEL,
    VERSION,
    Letter,
    Parcel,
    Refused,
    Wire,
    pack,
    read,
    span_of,
    unpack,
    write,
)
from flowstat.run.app import App
from flowstat.run.behaviour import Retry

BODIES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture(autouse=True)
def _closed(monkeypatch):
    """Close the files of all workers of a test."""
    opened = []
    begin = Shards.__init__

    def keep(self, *arguments):
        begin(self, *arguments)
        opened.append(self)

    monkeypatch.setattr(Shards, "__init__", keep)
    yield
    for shards in opened:
        shards.close()


def letter(id="m1", body=None, parent=None, tried=0):
    return Letter(id, TRACE, parent, tried, 5, pack(body))


def no_wait(coroutine):
    raise AssertionError("nothing to wait for")


def core_of(app):
    return Core(app.graph, app.behaviours, app.seed, no_wait)


def hand_of(app, folder, worker="w", limit=2, batch=256):
    core = core_of(app)
    for node in app.graph.nodes:
        core.settle(node)
    return Hand(core, Shards(folder, worker), batch, limit)


def delivery(node, *letters, source=None, key="", count=0, again=False):
    return Delivery(node, write(Parcel(VERSION, source, key, again, list(letters)), False), count, None)


def do(hand, *deliveries):
    """Let the hand work until all is done; return the posts and what was given up."""
    work, posts, given_up = deque(deliveries), [], []
    while work:
        step = hand.work(work)
        posts += step.posts
        given_up += step.given_up
    return posts, given_up


def sent(posts):
    return [(post.node, post.parcel.key, unpack(each.body)) for post in posts for each in post.parcel.letters]


# Names


@given(st.lists(st.text(min_size=1, max_size=300), min_size=2, max_size=2, unique=True), st.text(max_size=100))
def test_nodes_have_names_of_their_own_that_a_broker_and_its_library_take(nodes, graph):
    names = Names(graph)
    made = [
        name
        for node in nodes
        for name in (names.queue(node), names.entry(node), names.emitted(node), names.timer(node, 160 * 10**9))
    ]
    assert len({*made, names.dead}) == 9
    for name in (*made, names.dead):
        Exchange.Declare(exchange=name)
        Queue.Declare(queue=name)


def test_a_node_cannot_take_the_name_of_something_else():
    names = Names("g")
    assert names.queue("a.in") != names.entry("a")
    assert len({Names(graph).queue("a") for graph in ("g", "g.a", "G", "", "%")}) == 5
    assert len({*map(Names("g").queue, ("x" * 300, "x" * 301, "@" * 40, "@" * 41, "@", "@40", "@@"))}) == 7


# Bodies


@given(BODIES, st.booleans(), st.text())
def test_a_body_comes_as_it_was_sent(body, single, key):
    parcel = Parcel(VERSION, "a", key, False, [letter(body=body, parent="b7ad6b7169203331", tried=2)])
    found = read(write(parcel, single))
    assert repr(unpack(found.letters[0].body)) == repr(body)
    assert found == parcel


class Odd(str):
    pass


@pytest.mark.parametrize("body", [(1,), {1}, {1: 2}, object(), Odd("x"), [bytearray(b"x")], {"a": (1,)}])
def test_what_would_come_as_something_else_is_not_sent(body):
    with pytest.raises(TypeError, match="a body for other processes is made of"):
        pack(body)


def nested(depth):
    body = []
    for _ in range(depth):
        body = [body]
    return body


@pytest.mark.parametrize("body", [2**64, "\ud800", nested(5000), b"x" * MOST_BYTES])
def test_what_can_not_be_written_is_not_sent(body):
    with pytest.raises((ValueError, OverflowError)):
        pack(body)


def test_a_body_that_grows_as_json_travels_as_it_is():
    body = "\0" * (MOST_BYTES // 2)
    wire = write(Parcel(VERSION, None, "", False, [letter(body=[body])]), single=True)
    assert (wire.content_type, len(wire.body) < MOST_BYTES) == (PARCEL, True)


@pytest.mark.parametrize(
    ("body", "kind", "found"),
    [
        (b'{"a": 1}', "application/json", {"a": 1}),
        (b'{"a": 1}', "application/vnd.x+json; charset=utf-8", {"a": 1}),
        (b"[1]", None, [1]),
        (b"plain", None, "plain"),
        (b"\xff", None, b"\xff"),
        (b"", None, ""),
        (b"5", "text/plain", "5"),
        (b"5", "application/octet-stream", b"5"),
    ],
)
def test_a_foreign_body_is_what_its_type_says(body, kind, found):
    parcel = read(Wire(body, kind, "id", {}, "a.b"))
    assert (unpack(parcel.letters[0].body), parcel.key, parcel.source) == (found, "a.b", None)
    assert parcel.letters[0].parent is None


def forged(letters, key=""):
    """What another program might send as if flowstat had."""
    try:
        body = msgspec.msgpack.encode([VERSION, None, key, False, letters])
    except RecursionError:
        body = b"\x95\x01\xc0\xa0\xc2\x91\x96" + b"\x91" * 100_000
    return Wire(body, PARCEL, "id", {})


@pytest.mark.parametrize(
    "wire",
    [
        Wire(b"{", "application/json", "id", {}),
        Wire(b"\xff", "text/plain", "id", {}),
        Wire(b"x", "text/plain", "id", {}, "", "gzip"),
        Wire(b"", PARCEL, "id", {}),
        Wire(b"\x95\x02\xc0\xa0\xc2\x90", PARCEL, "id", {}),
        Wire(b"[" * 1000 + b"]" * 1000, "application/json", "id", {}),
        Wire(b"x" * (MOST_BYTES + 1), None, "id", {}),
        forged([]),
        forged([["m", "0" * 31, None, 0, 5, 1]]),
        forged([["m", TRACE, "short", 0, 5, 1]]),
        forged([["m", TRACE, None, -1, 5, 1]]),
        forged([["m", TRACE, None, 0, 2**63, 1]]),
        forged([["m", TRACE, None, 0, 5, 1]], key="k" * 256),
        forged([["m", TRACE, None, 0, 5, nested(100_000)]]),
    ],
)
def test_a_body_that_is_not_what_it_says_is_refused(wire):
    with pytest.raises(Refused):
        read(wire)


@pytest.mark.parametrize("body", [msgspec.msgpack.Ext(5, b"x"), {1: 2}, msgspec.Raw(b"\xa1\xff")])
def test_a_body_that_only_a_forger_writes_ends_nobody(tmp_path, body):
    forger = forged([["m" * 300, "x" * 32, None, 0, 5, body]])
    parcel = read(forger)
    assert read(write(parcel, single=True)) == parcel
    hand = hand_of(drawing(), tmp_path)
    do(hand, Delivery("b", forger, 0, None), Delivery("a", forger, 0, None))
    assert hand.events == 2


def test_a_foreign_message_goes_on_with_the_run_that_it_names():
    traceparent = f"00-{TRACE}-b7ad6b7169203331-01"
    assert read(Wire(b"", None, "id", {"traceparent": traceparent})).letters[0].trace == TRACE
    wrong = [
        None,
        "",
        "x",
        traceparent.upper(),
        traceparent.replace("00-", "ff-", 1),
        f"00-{'0' * 32}-{'1' * 16}-01",
        7,
    ]
    found = {read(Wire(b"", None, "id", {"traceparent": value})).letters[0].trace for value in wrong}
    assert len(found) == 1  # made of the message's id, and so the same whenever it comes
    assert TRACE not in found


def test_a_foreign_message_without_an_id_is_always_a_new_one():
    made = [read(Wire(b"", None, None, {})).letters[0] for _ in range(2)]
    assert made[0].id != made[1].id
    assert made[0].trace != made[1].trace


# Events


def drawing():
    app = App(parse_graph("a/x.# -> b, c; b -> d; c -> d"), seed=5)

    @app.on("a")
    def a(state, message, ctx):
        ctx.emit(ctx.random.random(), key="x.y")
        ctx.emit(message.run, key="nowhere")

    return app


def test_an_event_is_the_same_wherever_it_is_handled():
    events = [core_of(drawing()).handle(letter(), None, "", "a", lambda: 9) for _ in range(2)]
    assert events[0] == events[1]
    event = events[0]
    assert (event.status, event.sent, event.lost) == ("ok", "b c", [(1, "nowhere")])
    assert event.span == span_of("m1", "a")
    (made,) = [emitted.letter(event) for emitted in event.emits]
    assert (made.trace, made.parent) == (TRACE, event.span)
    other = core_of(drawing()).handle(letter("m2"), None, "", "a", lambda: 9)
    assert other.emits[0].letter(other).id != made.id
    assert unpack(other.emits[0].body) != unpack(event.emits[0].body)


def test_copies_at_two_nodes_send_different_messages():
    core = core_of(drawing())
    events = [core.handle(letter(), "a", "x", node, time_ns) for node in ("b", "c")]
    assert events[0].emits[0].letter(events[0]).id != events[1].emits[0].letter(events[1]).id


def test_what_a_behaviour_does_wrong_is_an_error_of_its_event():
    app = App(parse_graph("a -> b"))
    kept = []

    @app.on("a")
    def a(state, message, ctx):
        kept.append(ctx)
        ctx.emit("first")
        if message.body == "exit":
            sys.exit("no")
        ctx.emit(message.body, key="k" * 256 if message.body == "key" else "")

    core = core_of(app)
    for body, kind in (("exit", SystemExit), ("key", ValueError)):
        event = core.handle(letter(body=body), None, "", "a", time_ns)
        assert (event.status, event.sent, event.emits) == ("error", "", [])
        assert isinstance(event.error, kind)
    with pytest.raises(RunError, match="came after its behaviour had returned"):
        kept[0].emit(1)


def test_a_message_that_fails_is_tried_again_along_its_arrow():
    app = App(parse_graph("a/retry -> a; a/failed -> b"))

    @app.on("a", retry=Retry(times=2, wait=0.5))
    def a(state, message, ctx):
        raise ValueError("no")

    core = core_of(app)
    tried, source, ways = 0, None, []
    for _ in range(3):
        event = core.handle(letter(tried=tried), source, "", "a", time_ns)
        ((emitted),) = event.emits
        ways.append((event.status, event.sent, emitted.key, emitted.wait / 1e9, emitted.tried))
        tried, source = emitted.tried, "a"
    assert ways == [("error", "a", "retry", 0.5, 1), ("error", "a", "retry", 1.0, 2), ("error", "b", "failed", 0.0, 0)]


def test_a_retry_that_would_wait_for_ever_waits_as_long_as_a_broker_lets_it(tmp_path):
    app = App(parse_graph("a/retry -> a"))

    @app.on("a", retry=Retry(times=4, wait=1e8, factor=2))
    def a(state, message, ctx):
        raise ValueError("no")

    core = core_of(app)
    for tried in (1, 2):
        ((emitted),) = core.handle(letter(tried=tried), "a", "retry", "a", time_ns).emits
        assert emitted.wait == LONGEST_WAIT * 10**9


@pytest.mark.parametrize("wait", [LONGEST_WAIT + 1, 1e300])
def test_a_timer_that_waits_longer_than_a_broker_can_is_an_error(wait):
    app = App(parse_graph("a -> b"))
    app.on("a")(lambda state, message, ctx: ctx.after(wait))
    event = core_of(app).handle(letter(), None, "", "a", time_ns)
    assert (event.status, event.emits) == ("error", [])


@pytest.mark.parametrize("kind", ["async", "generator", "async generator"])
def test_behaviours_of_every_kind(kind):
    app = App(parse_graph("a -> b"))
    if kind == "async":

        @app.on("a")
        async def a(state, message, ctx):
            await ctx.sleep(0)
            ctx.emit(message.body)
    elif kind == "generator":

        @app.on("a")
        def a(state, message, ctx):
            yield message.body
    else:

        @app.on("a")
        async def a(state, message, ctx):
            await ctx.sleep(0)
            yield message.body

    async def run():
        thread = Thread()
        core = Core(app.graph, app.behaviours, 0, thread.run)
        event = await thread.do(lambda: core.handle(letter(body=[1]), None, "", "a", time_ns))
        with pytest.raises(ZeroDivisionError):
            await thread.do(lambda: 1 // 0)
        thread.close(wait=True)
        return event

    event = asyncio.run(run())
    assert (event.sent, event.error, unpack(event.emits[0].body)) == ("b", None, [1])


# The record


def counting():
    app = App(parse_graph("a -> sum; sum -> out"))

    @app.on("sum", state=list)
    def total(state, message, ctx):
        state.append(message.body)
        ctx.emit(list(state))
        if message.body == "bad":
            raise ValueError("bad")

    return app


def test_a_state_is_brought_back_from_what_all_workers_recorded(tmp_path):
    for worker, bodies in (("z", [1, "bad"]), ("b", [3]), ("m", [4, 5])):
        hand = hand_of(counting(), tmp_path, worker)
        hand.restore("sum")
        do(hand, *(delivery("sum", letter(f"m{body}", body), source="a") for body in bodies))
        hand.shards.close()
    hand = hand_of(counting(), tmp_path, "last")
    hand.restore("sum")
    assert hand.core.state("sum") == [1, "bad", 3, 4, 5]
    # What was applied is known, and not applied again; the next event is the next turn.
    posts, _ = do(hand, delivery("sum", letter("m3", 3), letter("m6", 6), source="a"))
    assert sent(posts) == [("sum", "", [1, "bad", 3, 4, 5, 6])]
    assert hand.repeated == 1


def some_workers(tmp_path):
    """Let three workers record two events each of a node with a state."""
    paths = []
    for worker in "abc":
        hand = hand_of(counting(), tmp_path, worker)
        hand.restore("sum")
        do(hand, *(delivery("sum", letter(f"{worker}{n}", n), source="a") for n in range(2)))
        hand.shards.close()
        paths.append(hand.shards.path)
    return paths


@pytest.mark.parametrize("which", [0, 1])
def test_a_state_is_not_brought_back_from_a_part_of_its_events(tmp_path, which):
    path = some_workers(tmp_path)[which]
    path.rename(tmp_path / "elsewhere")
    hand = hand_of(counting(), tmp_path, "last")
    with pytest.raises(RunError, match=rf"event number {2 * which + 1} is in none.*bring back each worker-\*.jsonl"):
        hand.restore("sum")
    (tmp_path / "elsewhere").rename(path)
    assert hand.restore("sum")
    assert hand.core.state("sum") == [0, 1] * 3


def test_a_state_is_not_brought_back_from_two_directories_in_one(tmp_path):
    (tmp_path / "other").mkdir()
    hand = hand_of(counting(), tmp_path / "other", "d")
    do(hand, delivery("sum", letter("d", 1), source="a"))
    some_workers(tmp_path)
    hand.shards.path.rename(tmp_path / hand.shards.path.name)
    with pytest.raises(RunError, match="same turn"):
        hand_of(counting(), tmp_path, "last").restore("sum")


def test_a_state_is_not_brought_back_beside_packed_traces(tmp_path):
    path = some_workers(tmp_path)[2]  # the last events: no gap would show that they are not read
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    with pytest.raises(RunError, match=r"is packed.*unpack it"):
        hand_of(counting(), tmp_path, "last").restore("sum")


def test_a_state_that_slept_is_brought_back_without_that(tmp_path, monkeypatch):
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    monkeypatch.setattr("asyncio.sleep", sleep)
    app = App(parse_graph("sum -> out"))

    @app.on("sum", state=list)
    async def total(state, message, ctx):
        await ctx.sleep(30)
        state.append(message.body)

    def of(worker):
        core = Core(app.graph, app.behaviours, 0, asyncio.run)
        core.settle("sum")
        return Hand(core, Shards(tmp_path, worker), 256, 2)

    do(of("one"), delivery("sum", letter("m", 1)))
    two = of("two")
    assert two.restore("sum")
    assert (two.core.state("sum"), slept) == ([1], [30.0, 0])
    assert not two.restore("sum", stop=lambda: True)


def test_a_trace_that_was_taken_away_while_a_worker_runs_is_said(tmp_path):
    one, two = hand_of(drawing(), tmp_path, "one"), hand_of(drawing(), tmp_path, "two")
    do(one, delivery("a", letter("m1")))
    two.shards.refresh()
    one.shards.path.unlink()
    with pytest.raises(RunError, match="can't read"):
        do(two, delivery("a", letter("m1"), count=1))


def test_a_full_disk_leaves_no_half_note_of_a_try(tmp_path):
    hand = hand_of(drawing(), tmp_path)
    tries = hand.shards._tries
    tries.add("0" * 16)
    file, tries._file = tries._file, Full(tries._file, 5)
    with pytest.raises(OutputError, match="No space left"):
        tries.add("1" * 16)
    tries._file = file
    tries.add("2" * 16)
    other = Shards(tmp_path, "other")
    other.refresh()
    assert [other.tries(digit * 16) for digit in "012"] == [1, 0, 1]


def test_a_behaviour_that_does_something_else_the_second_time_is_named(tmp_path):
    drawn = iter(range(10))

    def program():
        app = App(parse_graph("sum -> out"))

        @app.on("sum", state=list)
        def total(state, message, ctx):
            ctx.emit(next(drawn))

        return app

    do(hand_of(program(), tmp_path, "one"), delivery("sum", letter()))
    with pytest.raises(RunError, match="the state of sum can't be brought back"):
        hand_of(program(), tmp_path, "two").restore("sum")


def test_events_from_before_a_state_are_not_applied_to_it(tmp_path):
    do(hand_of(App(parse_graph("sum -> out")), tmp_path, "one"), delivery("sum", letter()))
    with pytest.raises(RunError, match="from when it had no state"):
        hand_of(counting(), tmp_path, "two").restore("sum")


def test_a_line_cut_off_is_as_if_it_had_not_been_written(tmp_path):
    hand = hand_of(drawing(), tmp_path)
    do(hand, delivery("a", letter("m1")), delivery("a", letter("m2")))
    hand.shards.close()
    whole = hand.shards.path.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for size in (len(whole) - 1, last + 1, last):
        hand.shards.path.write_bytes(whole[:size])
        other = Shards(tmp_path, "other")
        other.refresh()
        assert (other.knows(span_of("m1", "a")), other.knows(span_of("m2", "a"))) == (True, False)
        other.close()
        again = Shards(tmp_path, "w")
        assert not again.knows(span_of("m2", "a"))
        assert again.path.stat().st_size == last
        again.close()


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: line.replace(b'"outbox":"', b'"outbox":"0'),
        lambda line: b"\0" * (len(line) - 1) + b"\n",
        lambda line: b"[]\n",
        lambda line: line.replace(b'"span_id":"', b'"span_id":"x'),
        lambda line: line.replace(b'"outbox":"', b'"outbox":null,"x":"'),
    ],
)
def test_a_damaged_record_is_said_with_its_place(tmp_path, damage):
    hand = hand_of(counting(), tmp_path)
    do(hand, delivery("sum", letter("m1", 1)))
    hand.shards.close()
    hand.shards.path.write_bytes(damage(hand.shards.path.read_bytes()))
    with pytest.raises(RunError, match=r"damaged.*take the file away"):
        hand_of(counting(), tmp_path, "other").restore("sum")


def test_one_worker_has_a_name_and_one_the_node_with_a_state(tmp_path):
    first = Shards(tmp_path, "w")
    with pytest.raises(RunError, match="a worker w runs already"):
        Shards(tmp_path, "w")
    first.close()
    Shards(tmp_path, "w").close()
    one, two = lock_of(tmp_path, "a/b"), lock_of(tmp_path, "a/b")
    assert (one.take(), one.take(), two.take()) == (True, True, False)
    one.release()
    assert two.take()
    two.release()


class Full:
    """A file on a disk with room for a few bytes."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def write(self, data):
        if not self.room:
            raise OSError(28, "No space left on device")
        written = self.file.write(bytes(data[: self.room]))
        self.room -= written
        return written

    def __getattr__(self, name):
        return getattr(self.file, name)


def test_a_full_disk_leaves_no_half_line(tmp_path):
    hand = hand_of(drawing(), tmp_path)
    do(hand, delivery("a", letter("m1")))
    whole = hand.shards.path.read_bytes()
    hand.shards._file = Full(hand.shards._file, 100)
    with pytest.raises(OutputError, match="No space left"):
        do(hand, delivery("a", letter("m2")))
    assert hand.shards.path.read_bytes() == whole


def test_what_goes_on_when_a_worker_has_ended_is_not_recorded(tmp_path):
    hand = hand_of(drawing(), tmp_path)
    hand.shards.close()
    with pytest.raises(ValueError, match="closed file"):
        do(hand, delivery("a", letter()))
    assert not hand.shards.path.stat().st_size


# What comes twice, kills, or can't have come


def test_what_comes_twice_is_handled_once_and_sent_again_only_for_one_that_is_gone(tmp_path):
    hand = hand_of(drawing(), tmp_path, "one")
    first, _ = do(hand, delivery("a", letter("m1"), letter("m2"), letter("m1")))
    assert (hand.events, hand.repeated, len(sent(first))) == (2, 1, 2)
    assert do(hand, delivery("a", letter("m1"))) == ([], [])
    other = hand_of(drawing(), tmp_path, "two")
    (again,), _ = do(other, delivery("a", letter("m1"), letter("m2"), count=1))
    assert (other.events, other.repeated) == (0, 2)
    assert again.parcel.letters == first[0].parcel.letters
    assert again.parcel.again
    # A copy that its sender marks as perhaps sent before is looked for at the others too.
    assert do(hand_of(drawing(), tmp_path, "three"), delivery("a", letter("m2"), again=True)) == ([], [])


def test_a_message_that_kills_is_given_up_after_its_limit_and_no_other_is(tmp_path):
    class Killed(BaseException):
        pass

    for k in range(3):
        hand = hand_of(drawing(), tmp_path, f"w{k}")
        handle = hand.core.handle

        def kill(letter, *rest, handle=handle):
            if letter.id == "poison":
                raise Killed
            return handle(letter, *rest)

        hand.core.handle = kill
        one = delivery("a", letter("m1"), letter("poison"), letter("m2"), count=k)
        with pytest.raises(Killed):
            do(hand, one)
        hand.shards.close()
    last = hand_of(drawing(), tmp_path, "last")
    posts, (given,) = do(last, delivery("a", letter("m1"), letter("poison"), letter("m2"), count=3))
    assert [each.id for each in read(given.wire).letters] == ["poison"]
    assert (given.node, given.why) == ("a", "tried 2 times after its worker had ended at it")
    assert {each.parent for p in posts for each in p.parcel.letters} == {span_of("m1", "a"), span_of("m2", "a")}
    counts = count(read_traces(tmp_path))
    assert (dict(counts.events), dict(counts.pending)) == ({"a": 2}, {"a": 1})


def test_the_other_copy_of_a_message_that_kills_is_counted_with_it(tmp_path):
    hand = hand_of(drawing(), tmp_path, limit=1)
    hand.shards.try_again(span_of("m1", "a"))
    posts, (given,) = do(hand, delivery("a", letter("m1"), again=True))
    assert (posts, given.node, hand.events) == ([], "a", 0)


def test_one_that_was_only_beside_a_message_that_kills_is_sent_anew_before_the_broker_gives_it_up(tmp_path):
    hand = hand_of(drawing(), tmp_path)
    (post,), given_up = do(hand, delivery("b", letter("m1", 1), source="a", key="x", count=BROKER_LIMIT // 2))
    assert (post.only, post.parcel.source, post.parcel.key, given_up) == ("b", "a", "x", [])
    assert hand.events == 0
    do(hand, delivery("b", *post.parcel.letters, source="a", key="x", again=True))
    assert hand.events == 1


def test_what_no_arrow_can_have_brought_and_what_can_not_be_read_is_given_up(tmp_path):
    hand = hand_of(drawing(), tmp_path)
    _, given_up = do(
        hand,
        delivery("b", letter(), source="a", key="y"),
        delivery("b", letter(), source="gone", key="y"),
        Delivery("b", Wire(b"{", "application/json", "bad", {}), 0, None),
        delivery("b", letter("good"), source="a", key="x.z"),
    )
    whys = [given.why for given in given_up]
    assert whys[:2] == ["the graph has no arrow a/y -> b", "the graph has no arrow gone/y -> b"]
    assert dict(count(read_traces(tmp_path)).pending) == {"b": 1}  # one message, whoever is said to have sent it
    assert whys[2].startswith("not application/json")
    assert hand.events == 1


def test_messages_of_one_node_and_key_travel_together(tmp_path):
    hand = hand_of(drawing(), tmp_path, batch=10)
    posts, _ = do(hand, *(delivery("b", letter(f"m{n}", n), source="a", key="x") for n in range(25)))
    assert [len(post.parcel.letters) for post in posts] == [10, 10, 5]
    big = [delivery("b", letter(f"b{n}", "x" * 600_000), source="a", key="x") for n in range(3)]
    assert [len(post.parcel.letters) for post in do(hand, *big)[0]] == [1, 1, 1]


def test_a_timer_waits_to_three_digits_and_never_shorter(tmp_path):
    app = App(parse_graph("a -> b"))

    @app.on("a")
    def a(state, message, ctx):
        for wait in (0, 1e-9, 0.9991, 1.0, 12.3401, 86_400):
            ctx.after(wait, body=wait)

    posts, _ = do(hand_of(app, tmp_path), delivery("a", letter()))
    assert [post.wait for post in posts] == [0, 1, 1000, 12_400, 86_400_000]
    assert [len(post.parcel.letters) for post in posts] == [1, 1, 2, 1, 1]


# The directory is one trace


def test_the_files_of_workers_are_one_trace(tmp_path):
    one, two = (hand_of(drawing(), tmp_path, worker) for worker in ("one", "two"))
    (post,), _ = do(one, delivery("a", letter("m1")))
    for hand, node in ((two, "b"), (one, "b"), (two, "c")):  # b twice: by two workers at once
        do(hand, delivery(node, *post.parcel.letters, source="a", key=post.parcel.key))
    one.shards.path.write_bytes(one.shards.path.read_bytes() + b'{"trace_id')
    for paths in ([tmp_path], [one.shards.path, two.shards.path], [tmp_path / "worker-*.jsonl"]):
        traces = read_traces(*paths)
        counts = count(traces)
        assert dict(counts.table) == {("a", "b c"): 1, ("b", "d"): 1, ("c", "d"): 1}
        assert (dict(counts.starts), dict(counts.dropped)) == ({"a": 1}, {"a": 1})
        assert len(traces.files) == 1
    assert [problem.what for problem in counts.problems] == [
        "lines cut off, left out",
        "events recorded twice, counted once",
    ]


def test_files_that_are_named_as_workers_but_have_ids_of_their_own_stay_apart(tmp_path):
    row = {"trace_id": 1, "span_id": 1, "parent_id": None, "parent": None, "name": "a", "sent": "", "status": "ok"}
    for worker in "12":
        (tmp_path / f"worker-{worker}.jsonl").write_bytes(orjson.dumps(row) + b"\n")
    assert dict(count(read_traces(tmp_path)).events) == {"a": 2}


# The command


@pytest.fixture
def graph(tmp_path):
    path = tmp_path / "app.graph"
    path.write_text("a -> b;")
    return path


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--nodes", "a"], "say --broker"),
        (["--broker", "amqp://x", "--clock", "wall"], "--clock is not for a run through a broker"),
        (["--broker", "amqp://x", "--latency", "1"], "--latency is not for a run through a broker"),
        (["--broker", "amqp://x", "--nodes", ""], "only injects: add --runs"),
        (["--broker", "amqp://x", "--nodes", "A"], "the graph has no node 'A'"),
        (["--broker", "http://x"], "a broker's URL is amqp://"),
        (["--broker", "amqp://x:port/"], "that is no broker's URL"),
    ],
)
def test_wrong_usage_says_what_to_do(run_flowstat, graph, tmp_path, options, said):
    code, _, err = run_flowstat("run", graph, "-o", tmp_path / "out", *options)
    assert code == 2
    assert said in err
    assert "Traceback" not in err


def test_without_the_extra_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "aio_pika", None)
    with pytest.raises(RunError, match=r"pip install 'flowstat\[amqp\]'"):
        work(drawing(), "amqp://localhost", tmp_path)


@pytest.mark.parametrize("options", [{"batch": 0}, {"limit": 0}, {"prefetch": 0}, {"prefetch": 65_536}])
def test_bounds_that_are_none_are_refused(tmp_path, options):
    with pytest.raises(RunError, match="whole numbers, 1 or more"):
        work(drawing(), "amqp://localhost", tmp_path, **options)
