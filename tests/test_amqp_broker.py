"""Workers through a real RabbitMQ: with other programs, with one another, killed, and with a broker that is killed."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from time import monotonic, sleep

import pika
import pytest

from flowstat.errors import RunError
from flowstat.estimate.counting import count
from flowstat.read.files import parse_graph
from flowstat.read.traces import read_traces
from flowstat.run.amqp import work
from flowstat.run.amqp_inject import inject
from flowstat.run.amqp_names import Names
from flowstat.run.app import App
from flowstat.run.behaviour import Retry
from tests.amqp_app import program
from tests.amqp_chaos import chaos, check
from tests.servers import Broker, rabbitmq_broker  # noqa: F401

IDLE = 0.5
CHAOS = int(os.environ.get("FLOWSTAT_CHAOS", "10000"))
"""Messages of the test in which all is killed; 100,000 take about a minute."""


def until(holds, patience=60.0):
    """Wait until something holds."""
    deadline = monotonic() + patience
    while not holds():
        assert monotonic() < deadline
        sleep(0.02)


@pytest.fixture
def channel(broker: Broker):
    """A channel of another program."""
    connection = pika.BlockingConnection(pika.URLParameters(broker.url))
    channel = connection.channel()
    channel.confirm_delivery()
    yield channel
    connection.close()


def forwarding(text):
    return App(parse_graph(text))


def table(folder, graph=None):
    return dict(count(read_traces(folder), graph).table)


def test_the_command_injects_handles_and_records(broker, run_flowstat, tmp_path):
    graph = tmp_path / "orders.graph"
    graph.write_text("order -> pay; pay/ok -> ship; pay/retry -> pay;")
    graph.with_suffix(".py").write_text(
        "def order(state, message, ctx): ctx.emit(message.body)\n"
        "def pay(state, message, ctx): ctx.emit(key='retry' if ctx.random.random() < 0.3 else 'ok')\n"
        "def ship(state, message, ctx): ctx.emit()\n"
    )
    shared = ["run", graph, "--broker", broker.url, "--seed", 3]
    code, _, err = run_flowstat(*shared, "--nodes", "", "--runs", 40)
    assert (code, "40 messages injected." in err) == (0, True)
    for nodes in ("order", "ship, pay"):
        code, _, err = run_flowstat(
            *shared, "--nodes", nodes, "--worker", nodes[:4], "--idle", IDLE, "-o", tmp_path / "t"
        )
        assert (code, "handled by the worker" in err) == (0, True)
    assert "40 emits of ship with no key taken by no arrow" in err
    assert sorted(path.name for path in (tmp_path / "t").glob("*.jsonl")) == ["worker-orde.jsonl", "worker-ship.jsonl"]
    found = table(tmp_path / "t")
    assert (found["order", "pay"], found["pay", "ship"], found["ship", ""]) == (40, 40, 40)
    assert found["pay", "pay"] > 0
    code, out, err = run_flowstat("cycles", graph, "-t", tmp_path / "t")
    assert (code, "pay" in out) == (0, True)


def test_messages_of_any_program_come_in_and_go_out(broker, channel, tmp_path):
    app, names = forwarding("a -> b; b/x.* -> c"), Names("foreign")
    work(app, broker.url, tmp_path, graph="foreign", idle=0.1)  # what is declared stays
    trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    headers = {"traceparent": f"00-{trace}-{span}-01"}
    json = pika.BasicProperties(content_type="application/json", message_id="m1", headers=headers)
    with pytest.raises(pika.exceptions.UnroutableError):
        channel.basic_publish(names.emitted("b"), "y", b"", mandatory=True)
    channel.queue_declare("listener", exclusive=True)
    channel.queue_bind("listener", names.emitted("b"), "#")
    channel.basic_publish(names.entry("a"), "x.y", b'{"n": 1}', json, mandatory=True)
    channel.basic_publish(names.entry("a"), "x.y", b'{"n": 1}', json, mandatory=True)  # its sender was not sure
    channel.basic_publish(names.emitted("b"), "x.z", b"text", mandatory=True)
    result = work(app, broker.url, tmp_path, graph="foreign", idle=IDLE, batch=1)
    assert (result.events, result.repeated) == (4, 1)
    assert table(tmp_path) == {("a", "b"): 1, ("b", "c"): 1, ("c", ""): 2}
    frame = read_traces(tmp_path).frame()
    ours = frame[frame.trace_id == trace].set_index("name")
    assert list(ours.key) == ["x.y"] * 3
    assert ours.parent_id.isna()["a"]
    assert ours.parent_id["b"] == ours.span_id["a"]
    found = {}
    for _ in range(2):
        _, properties, body = channel.basic_get("listener", auto_ack=True)
        found[body] = properties
    # What another program hears of `b`: the message that it emitted, by itself, with its place in the trace.
    heard = found[b'{"n":1}']
    assert heard.content_type == "application/json"
    assert heard.headers["traceparent"] == f"00-{trace}-{ours.span_id['b']}-01"
    assert heard.message_id


@pytest.mark.parametrize("batch", [1, 256])
def test_timers_and_retries_wait_at_the_broker(broker, tmp_path, batch):
    app = App(parse_graph("a/later -> b; b/retry -> b; b/failed -> c"))

    @app.on("a")
    def a(state, message, ctx):
        ctx.after(0.3, key="later", body=message.body)

    @app.on("b", retry=Retry(times=2, wait=0.1))
    def b(state, message, ctx):
        raise ValueError("no")

    graph = f"timers{batch}"
    inject(app, broker.url, [("a", "", n) for n in range(3)], graph=graph, batch=batch)
    result = work(app, broker.url, tmp_path, graph=graph, idle=1.5, batch=batch)
    assert [(f.node, f.exception, f.events) for f in result.errors] == [("b", "ValueError", 9)]
    assert table(tmp_path) == {("a", "b"): 3, ("b", "b"): 6, ("b", "c"): 3, ("c", ""): 3}
    frame = read_traces(tmp_path).frame()
    waited = (frame.started_at - frame.sent_at).dt.total_seconds()
    assert (waited[(frame.name == "b") & (frame.parent == "a")] >= 0.3).all()
    assert (waited[frame.name == "c"] < 0.3).all()
    first, second = (waited[(frame.name == "b") & (frame.parent == "b") & ok] for ok in (waited < 0.2, waited >= 0.2))
    assert (len(first), len(second)) == (3, 3)
    assert (first >= 0.1).all()


def test_a_state_goes_on_with_the_next_worker(broker, tmp_path):
    def summing():
        app = App(parse_graph("sum -> out"))

        @app.on("sum", state=list)
        def total(state, message, ctx):
            state.append(message.body)
            ctx.emit(sum(state))

        return app

    results = []
    for some in ([1, 2], [3], [4, 5]):
        inject(summing(), broker.url, [("sum", "", n) for n in some], graph="states")
        results.append(work(summing(), broker.url, tmp_path, graph="states", nodes=["sum"], idle=IDLE))
    assert [result.restored.get("sum") for result in results] == [None, 2, 3]
    seen = []
    app = App(parse_graph("sum -> out"), behaviours={"sum": summing().behaviours["sum"]})
    app.on("out")(lambda state, message, ctx: seen.append(message.body))
    work(app, broker.url, tmp_path, graph="states", nodes=["out"], idle=IDLE)
    assert sorted(seen) == [1, 3, 6, 10, 15]


def test_two_workers_share_the_work_and_one_has_the_state(broker, tmp_path):
    app = program()
    inject(app, broker.url, [("order", "", n) for n in range(3000)], graph="shared", batch=16)
    results = []
    threads = [
        threading.Thread(
            target=lambda k=k: results.append(
                work(program(), broker.url, tmp_path, graph="shared", idle=1, worker=f"w{k}", batch=16)
            )
        )
        for k in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(result.events for result in results) == sum(count(read_traces(tmp_path)).events.values())
    frame = read_traces(tmp_path).frame()
    assert frame[frame.name == "count"].worker.nunique() == 1
    assert frame.worker.nunique() == 2
    check(tmp_path, 3000)


class Worker:
    """A worker in a process of its own."""

    def __init__(self, broker, folder, **options):
        command = [sys.executable, "-m", "tests.amqp_app", broker.url, str(folder)]
        command += [f"{key}={value}" for key, value in options.items()]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def end(self):
        said, _ = self.process.communicate(timeout=60)
        return self.process.returncode, said


def test_a_message_that_kills_its_worker_ends_in_the_dead_letter_queue_and_is_named(broker, channel, tmp_path):
    app = program()
    bodies = [*range(50), "poison", *range(50, 100)]
    inject(app, broker.url, [("order", "", body) for body in bodies], graph="poison")
    killed = 0
    while True:
        code, said = Worker(broker, tmp_path, graph="poison", idle=1, limit=2).end()
        if code == 0:
            break
        assert code == -signal.SIGKILL, said
        killed += 1
    assert killed == 3  # once for all that was in hand, and then as often as its limit says
    frame = read_traces(tmp_path).frame()
    (row,) = frame[frame.status == "pending"].drop_duplicates("span_id").to_dict("records")
    assert (row["name"], row["parent"]) == ("pay", "order")
    _, properties, body = channel.basic_get(Names("poison").dead, auto_ack=False)
    assert b"poison" in body
    assert f"at pay: message {properties.message_id}: tried 2 times after its worker had ended at it" in said
    counts = count(read_traces(tmp_path))
    assert counts.events["count"] == 2 * 100 + 1  # the other copy of it went by `check`
    assert dict(counts.pending) == {"pay": 1}


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_worker_that_is_told_to_end_finishes_what_it_has_in_hand(broker, tmp_path, number, expected):
    graph = tmp_path / f"slow{expected}.graph"
    graph.write_text("a -> b;")
    graph.with_suffix(".py").write_text(
        "import time\ndef a(state, message, ctx):\n    time.sleep(0.005)\n    ctx.emit(message.body)\n"
    )
    folder = tmp_path / "t"
    command = [sys.executable, "-m", "flowstat", "run", str(graph), "--broker", broker.url]
    subprocess.run([*command, "--nodes", "", "--runs", "400"], check=True, capture_output=True)
    first = subprocess.Popen([*command, "-o", str(folder)], stderr=subprocess.PIPE, text=True)
    until(lambda: any(path.stat().st_size for path in folder.glob("worker-*.jsonl")))
    first.send_signal(number)
    _, err = first.communicate(timeout=30)
    assert (first.returncode, "Traceback" in err) == (expected, False)
    before = count(read_traces(folder)).events
    assert 0 < before["a"] < 400
    subprocess.run([*command, "-o", str(folder), "--idle", "1"], check=True, capture_output=True)
    counts = count(read_traces(folder))
    assert dict(counts.events) == {"a": 400, "b": 400}
    assert not counts.problems


def test_a_queue_that_is_removed_is_there_again(broker, channel, tmp_path):
    app = forwarding("a -> b")
    done = []
    thread = threading.Thread(
        target=lambda: done.append(work(app, broker.url, tmp_path, graph="removed", idle=3, say=done.append))
    )
    thread.start()
    inject(app, broker.url, [("a", "", 1)], graph="removed")
    until(lambda: any(path.stat().st_size for path in tmp_path.glob("worker-*.jsonl")))
    channel.queue_delete(Names("removed").queue("b"))
    until(lambda: any("connected to the broker again" in str(said) for said in done))
    inject(app, broker.url, [("a", "", 2)], graph="removed")
    thread.join()
    assert table(tmp_path)["a", "b"] == 2


def test_what_is_wrong_with_the_broker_is_said(broker, channel, tmp_path):
    with pytest.raises(RunError, match="can't connect to the broker") as refused:
        work(forwarding("a -> b"), broker.url.replace("guest:guest", "guest:s3cret"), tmp_path)
    assert "s3cret" not in str(refused.value)
    with pytest.raises(RunError, match="can't connect to the broker"):
        inject(forwarding("a -> b"), "amqp://guest:guest@127.0.0.1:1/", [("a", "", 1)])
    channel.queue_declare(Names("other").queue("b"), durable=True)
    with pytest.raises(RunError, match="a queue or exchange of this name that is another one"):
        work(forwarding("a -> b"), broker.url, tmp_path, graph="other")
    with pytest.raises(RunError, match=r"the key.*more than the 255 bytes"):
        work(forwarding(f"a/{'k' * 256} -> c"), broker.url, tmp_path, graph="other")


def test_an_injection_that_is_none_is_said_and_those_before_it_are_sent(broker, tmp_path):
    app = forwarding("a -> b")
    for wrong, said in [
        (("c", "", 1), "the graph has no node 'c'"),
        (("a", "k" * 256, 1), "at most 255 bytes"),
        (("a", "", (1,)), "not tuple"),
        (3, r"an injection is \(node, key, body\)"),
    ]:
        with pytest.raises(RunError, match=said):
            inject(app, broker.url, [("a", "", 1), wrong, ("a", "", 2)], graph="wrong")
    assert work(app, broker.url, tmp_path, graph="wrong", idle=IDLE).events == 2 * 4


def test_nothing_is_lost_or_applied_twice_when_workers_and_the_broker_are_killed(broker, tmp_path: Path):
    told = chaos(broker, tmp_path, CHAOS, kills=4, broker_kills=2)
    assert [what for what, _ in told["killed"]].count("broker") == 2
    check(tmp_path, CHAOS)


def test_what_comes_through_a_pipe_is_sent_as_it_comes(broker, tmp_path):
    app = forwarding("a -> b")
    said, goes_on = threading.Event(), threading.Event()

    def slowly():
        yield "a", "", 1
        goes_on.wait(30)
        yield "a", "", 2
        said.set()

    thread = threading.Thread(target=inject, args=(app, broker.url, slowly()), kwargs={"graph": "pipe"})
    thread.start()
    first = work(app, broker.url, tmp_path, graph="pipe", idle=2)
    goes_on.set()
    thread.join()
    assert (first.events, said.is_set()) == (2, True)
    assert work(app, broker.url, tmp_path, graph="pipe", idle=IDLE).events == 2


def test_a_slow_behaviour_is_not_taken_for_idleness(broker, tmp_path):
    app = forwarding("a -> b")
    app.on("a")(lambda state, message, ctx: sleep(0.3))
    inject(app, broker.url, [("a", "", n) for n in range(3)], graph="slow")
    assert work(app, broker.url, tmp_path, graph="slow", idle=0.1).events == 3


def test_a_second_signal_ends_a_worker_in_the_middle_and_the_next_one_takes_over(broker, tmp_path):
    graph, begun = tmp_path / "stuck.graph", tmp_path / "begun"
    graph.write_text("a -> b;")
    graph.with_suffix(".py").write_text(
        "import pathlib, time\n"
        "import flowstat as fs\n"
        "@fs.on('a', state=list)\n"
        "def a(state, message, ctx):\n"
        "    state.append(message.run)\n"
        f"    begun = pathlib.Path({str(begun)!r})\n"
        "    if len(state) == 2 and not begun.exists():\n"
        "        begun.touch()\n"
        "        time.sleep(60)\n"
        "    ctx.emit(len(state))\n"
    )
    command = [sys.executable, "-m", "flowstat", "run", str(graph), "--broker", broker.url, "-o", str(tmp_path / "t")]
    subprocess.run([*command, "--nodes", "", "--runs", "3"], check=True, capture_output=True)
    first = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    until(begun.exists)
    first.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        first.wait(0.5)
    first.send_signal(signal.SIGINT)
    _, err = first.communicate(timeout=30)
    assert (first.returncode, "Traceback" in err) == (130, False)
    subprocess.run([*command, "--idle", "1"], check=True, capture_output=True)
    assert table(tmp_path / "t") == {("a", "b"): 3, ("b", ""): 3}
