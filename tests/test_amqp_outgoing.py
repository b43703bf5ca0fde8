"""What workers meet at a real RabbitMQ: full queues, odd names, programs that publish anything, and full disks."""

import asyncio
import resource
import subprocess
import sys
import threading
from itertools import pairwise

import msgspec
import pika
import pytest

from flowstat.errors import RunError
from flowstat.estimate.counting import count
from flowstat.read.files import parse_graph
from flowstat.read.traces import read_traces
from flowstat.read.writers import open_trace_writer
from flowstat.run.amqp import work
from flowstat.run.amqp_inject import inject
from flowstat.run.amqp_link import UNUSED
from flowstat.run.amqp_names import Names
from flowstat.run.amqp_wire import PARCEL
from flowstat.run.app import App
from tests.amqp_app import program
from tests.amqp_chaos import check
from tests.servers import Broker, rabbitmq_broker  # noqa: F401
from tests.test_amqp_broker import IDLE, channel, forwarding, table, until  # noqa: F401

TRACE = "0af7651916cd43dd8448eb211c80319c"


def bounded(broker: Broker, graph, node, most):
    """Bound a node's queue, as an operator does; return its graph's name."""
    broker.control(
        "set_policy", graph, f"^flowstat.{graph}.{node}$", f'{{"max-length":{most}}}', "--apply-to", "queues"
    )
    return graph


def fill(channel, exchange):  # noqa: F811
    """Publish until the bounded queue behind an exchange takes no more (brokers let some more in); return how many."""
    for n in range(10_000):
        try:
            channel.basic_publish(exchange, "", b"filled", mandatory=True)
        except pika.exceptions.NackError:
            return n
    raise AssertionError("it is never full")


@pytest.mark.parametrize("batch", [1, 200])
def test_a_full_queue_is_waited_for_and_nothing_is_lost(broker, channel, tmp_path, batch):  # noqa: F811
    app = forwarding("a -> b; b -> c")
    # Each with a key of its own travels by itself: more are under way to b than one takes from there at a time.
    app.on("a")(lambda state, message, ctx: ctx.emit(message.body, key=str(message.body)))
    graph = bounded(broker, f"full{batch}", "b", 3)
    inject(app, broker.url, [("a", "", n) for n in range(300)], graph=graph, batch=batch)
    work(app, broker.url, tmp_path, graph=graph, nodes=["b"], idle=0)
    filled = fill(channel, Names(graph).entry("b"))
    # One worker has all nodes: what waits for room in b must not be in the way of what b sends on.
    result = work(app, broker.url, tmp_path, graph=graph, idle=2.2, batch=batch, say=lambda _: None)
    assert result.events == 900 + 2 * filled
    assert table(tmp_path) == {("a", "b"): 300, ("b", "c"): 300 + filled, ("c", ""): 300 + filled}


def test_a_queue_that_stays_full_is_said_and_keeps_no_worker_from_ending(broker, channel, tmp_path):  # noqa: F811
    app = forwarding("a -> b, c")
    graph = bounded(broker, "stuck", "b", 2)
    inject(app, broker.url, [("a", "", n) for n in range(20)], graph=graph, batch=1)
    work(app, broker.url, tmp_path, graph=graph, nodes=["b"], idle=0)
    filled = fill(channel, Names(graph).entry("b"))
    command = [sys.executable, "-c", STUCK, broker.url, str(tmp_path)]
    stuck = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    said = stuck.stdout.readline()
    assert said == "the queue of b is full: what is sent there waits until it has room\n"
    stuck.terminate()
    out, _ = stuck.communicate(timeout=20)
    assert (stuck.returncode, out) == (0, "20\n")
    # What is in c is there twice at most: it was sent along both arrows, and then to each queue by itself.
    first = work(app, broker.url, tmp_path, graph=graph, nodes=["c"], idle=1, batch=1)
    assert (first.events, first.repeated <= 20) == (20, True)
    work(app, broker.url, tmp_path, graph=graph, idle=1, batch=1)
    assert table(tmp_path) == {("a", "b c"): 20, ("b", ""): 20 + filled, ("c", ""): 20}
    assert not count(read_traces(tmp_path)).problems


STUCK = """
import sys
from flowstat.read.files import parse_graph
from flowstat.run.amqp import work
from flowstat.run.app import App
app = App(parse_graph("a -> b, c"))
say = lambda what: print(what, flush=True)
print(work(app, *sys.argv[1:], graph="stuck", nodes=["a"], batch=1, worker="first", say=say).events)
"""


def test_the_dead_letters_may_be_full_too(broker, channel, tmp_path):  # noqa: F811
    app, names = forwarding("a -> b"), Names("deads")
    work(app, broker.url, tmp_path, graph="deads", idle=0)
    broker.control("set_policy", "deads", "^flowstat-dead.deads$", '{"max-length":1,"overflow":"reject-publish"}')
    filled = fill(channel, names.dead)
    channel.basic_publish(names.entry("a"), "", b"{bad", pika.BasicProperties(content_type="application/json"))
    said, results = [], []
    one = threading.Thread(
        target=lambda: results.append(work(app, broker.url, tmp_path, graph="deads", idle=IDLE, say=said.append))
    )
    one.start()
    until(lambda: said)
    assert said == ["the queue of the dead letters is full: what is sent there waits until it has room"]
    for _ in range(filled):
        assert channel.basic_get(names.dead, auto_ack=True)[2] == b"filled"
    one.join()
    _, properties, body = channel.basic_get(names.dead, auto_ack=False)
    # As it came, with where and why: whoever mends it can send it again.
    assert (body, properties.content_type) == (b"{bad", "application/json")
    assert properties.headers["flowstat-node"] == "a"
    ((node, message, why),) = results[0].dead
    assert (node, message, why.startswith("not application/json")) == ("a", properties.message_id, True)


def test_dead_letters_without_ids_are_not_taken_for_one(broker, channel, tmp_path):  # noqa: F811
    app, names = forwarding("a -> b"), Names("noids")
    work(app, broker.url, tmp_path, graph="noids", idle=0)
    for body in (b"{", b"["):
        channel.basic_publish(names.entry("a"), "", body, pika.BasicProperties(content_type="application/json"))
    result = work(app, broker.url, tmp_path, graph="noids", idle=IDLE)
    assert (result.dead_letters, len(result.dead)) == (2, 2)


NAMES = [
    "billing eu",
    "中文",
    "n" * 200,
    "n" * 200 + "x",
    "a.b",
    "a@2Eb",
    "#",
    "*",
    "a/b",
    "A",
    "a",
    "..",
    "dead letters/",
]


def test_nodes_graphs_and_workers_may_have_any_name(broker, tmp_path):
    def numbering():
        app = App(parse_graph("; ".join(f'"{a}" -> "{b}"' for a, b in pairwise(NAMES))))
        for node in NAMES:

            @app.on(node, state=list)
            def behave(state, message, ctx):
                state.append(message.body)
                ctx.emit(message.body)

        return app

    graph, worker = "orders v2/ü.x", "host.example/ü " + "w" * 300
    inject(numbering(), broker.url, [(node, "", node) for node in NAMES], graph=graph)
    result = work(numbering(), broker.url, tmp_path, graph=graph, idle=1, worker=worker)
    assert (result.errors, result.dead_letters) == ((), 0)
    assert dict(count(read_traces(tmp_path)).events) == {node: n for n, node in enumerate(NAMES, 1)}
    again = work(numbering(), broker.url, tmp_path, graph=graph, idle=0.1)
    assert dict(again.restored) == {node: n for n, node in enumerate(NAMES, 1)}


def test_what_any_program_publishes_ends_no_worker(broker, channel, tmp_path):  # noqa: F811
    app, names = forwarding("a -> b; b/x -> c"), Names("any")
    work(app, broker.url, tmp_path, graph="any", idle=0)
    text = {"content_type": "text/plain"}
    json = {"content_type": "application/json"}
    odd = {"x": b"\xff", "l": [1, {"a": None}], "flowstat-source": b"a", "traceparent": ["x"], "x-delivery-count": 70}
    good = [
        ("a", b"x" * 1_000_000, {}),  # no id
        ("a", b"y" * 5_000_000, text),
        ("c", b"last", {}),
        ("a", b"{}", {"message_id": "1"}),
        ("a", b"{}", {"message_id": "1"}),
        ("a", b"[]", json | {"headers": {"traceparent": f"00-{TRACE}-{'b' * 16}-01"}}),
        ("a", b"1", {"headers": odd, "message_id": "ü" * 120, "priority": 9, "expiration": "60000"}),
    ]
    bad = [
        ("a", b"{bad", json),
        ("a", b"\xff", text),
        ("b", b"[" * 100_000, json),
        ("a", b"x", text | {"content_encoding": "gzip"}),
        (
            "a",
            msgspec.msgpack.encode([1, "gone", "", False, [["m", TRACE, None, 0, 5, {1: 2}]]]),
            {"content_type": PARCEL},
        ),
        ("b", b"\x91\xff", {"content_type": PARCEL}),
    ]
    for node, body, properties in good + bad:
        channel.basic_publish(names.entry(node), "", body, pika.BasicProperties(**properties), mandatory=True)
    result = work(app, broker.url, tmp_path, graph="any", idle=IDLE)
    assert (result.events, result.repeated, result.dead_letters) == (5 + 5 + 1, 1, len(bad))
    assert dict(result.dropped) == {("b", ""): 5}
    assert table(tmp_path) == {("a", "b"): 5, ("b", ""): 5, ("c", ""): 1}
    assert TRACE in set(read_traces(tmp_path).frame().trace_id)


def test_a_timer_that_the_broker_has_otherwise_is_said(broker, channel, tmp_path):  # noqa: F811
    app = forwarding("a -> b")
    app.on("a")(lambda state, message, ctx: ctx.after(0.25))
    channel.queue_declare(Names("timer").timer("a", 250), durable=True)
    inject(app, broker.url, [("a", "", 1)], graph="timer")
    with pytest.raises(RunError, match="a queue or exchange of this name that is another one"):
        work(app, broker.url, tmp_path, graph="timer")


def test_the_longest_timer_is_one_that_the_broker_takes(broker, channel, tmp_path):  # noqa: F811
    from flowstat.run.amqp_core import LONGEST_WAIT

    app = forwarding("a -> b")
    app.on("a")(lambda state, message, ctx: ctx.after(LONGEST_WAIT))
    inject(app, broker.url, [("a", "", 1)], graph="long")
    result = work(app, broker.url, tmp_path, graph="long", idle=IDLE)
    assert (result.events, result.errors) == (1, ())
    (name,) = {Names("long").timer("a", ms) for ms in (158_000_000_000,)}
    assert channel.queue_declare(name, passive=True).method.message_count == 1
    assert UNUSED * 1000 + 158_000_000_000 < 10 * 365 * 86_400_000


def test_a_program_on_the_broker_in_a_notebook(broker, tmp_path):
    async def cell():
        inject(forwarding("a -> b"), broker.url, [("a", "", 1)], graph="notebook")
        return work(forwarding("a -> b"), broker.url, tmp_path, graph="notebook", idle=0.1)

    assert asyncio.run(cell()).events == 2


def test_injections_that_end_otherwise_are_sent_before_that(broker, tmp_path):
    def leaving():
        yield "a", "", 1
        sys.exit("enough")

    with pytest.raises(SystemExit, match="enough"):
        inject(forwarding("a -> b"), broker.url, leaving(), graph="leaving")
    assert work(forwarding("a -> b"), broker.url, tmp_path, graph="leaving", idle=IDLE).events == 2


def test_a_worker_whose_disk_is_full_ends_and_the_next_one_goes_on(broker, tmp_path):
    inject(program(), broker.url, [("order", "", n) for n in range(300)], graph="disk", batch=4)
    command = [sys.executable, "-m", "tests.amqp_app", broker.url, str(tmp_path), "graph=disk", "idle=1", "batch=4"]
    room = 60_000
    first = subprocess.run(
        command, stderr=subprocess.PIPE, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    )
    assert first.returncode == 1
    assert first.stderr.startswith(b"can't write the trace ")
    (shard,) = tmp_path.glob("worker-*.jsonl")
    assert 0 < shard.stat().st_size <= room
    assert shard.read_bytes().endswith(b"\n")
    subprocess.run(command, check=True, stdout=subprocess.PIPE)
    assert check(tmp_path, 300)["problems"] == []


def test_three_workers_record_what_one_process_does(broker, tmp_path):
    graph = parse_graph("a/even -> b; a/odd -> c, d; b -> d; c/retry -> c; c -> d; d/big -> e")

    def deterministic():
        app = App(graph)

        @app.on("a")
        def a(state, message, ctx):
            ctx.emit(message.body, key="odd" if message.body % 2 else "even")
            if message.body % 10 == 0:
                ctx.emit(message.body, key="nowhere")

        @app.on("c")
        def c(state, message, ctx):
            if message.body > 40 and message.key != "retry":
                ctx.after(0.01, key="retry", body=message.body - 40)
            else:
                ctx.emit(message.body)

        @app.on("d", state=dict)
        def d(state, message, ctx):
            state[message.body] = state.get(message.body, 0) + 1
            ctx.emit(message.body, key="big" if message.body > 70 else "small")

        return app

    messages = [("a", "", n) for n in range(100)]
    alone = tmp_path / "alone.jsonl"
    with open_trace_writer(alone) as writer:
        deterministic().run(messages, writer)
    inject(deterministic(), broker.url, messages, graph="same", batch=4)
    threads = [
        threading.Thread(
            target=work,
            args=(deterministic(), broker.url, tmp_path / "t"),
            kwargs={"graph": "same", "idle": 1.2, "batch": 4, "worker": f"w{k}"},
        )
        for k in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    one, three = count(read_traces(alone), graph), count(read_traces(tmp_path / "t"), graph)
    assert len(list((tmp_path / "t").glob("worker-*.jsonl"))) == 3
    for name in ("table", "events", "starts", "dropped", "pending", "errors"):
        assert dict(getattr(three, name)) == dict(getattr(one, name)), name
