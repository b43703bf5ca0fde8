"""A worker between two queues, beside a pika loop: take a message, send one, confirmed, acknowledge it."""

import statistics
import tempfile
import time
from itertools import count

import pika

from flowstat.read.files import parse_graph
from flowstat.run.amqp import work
from flowstat.run.amqp_inject import inject
from flowstat.run.app import App
from tests.benchmarks.harness import Row
from tests.servers import private_broker

PLAIN = 500
ALONE = 2_000
TOGETHER = 40_000
TURNS = 3

QUORUM = {"x-queue-type": "quorum"}
_graphs = count()


def app():
    made = App(parse_graph("a/ok -> b;"))

    @made.on("a")
    def a(state, message, ctx):
        ctx.emit(message.body, key="ok")

    return made


def ours(url, messages, batch):
    """Return the messages a second that a worker takes, handles, records, sends on and acknowledges."""
    graph = f"g{next(_graphs)}"
    inject(app(), url, (("a", "", {"n": n}) for n in range(messages)), graph=graph, batch=batch)
    with tempfile.TemporaryDirectory() as folder:
        idle = 0.3
        began = time.perf_counter()
        result = work(app(), url, folder, graph=graph, nodes=["a"], batch=batch, idle=idle)
        seconds = time.perf_counter() - began - idle
    assert result.events == messages
    return messages / seconds


def plain(url):
    """Return the same of the loop that one writes with pika: one message after the other, each confirmed."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.confirm_delivery()
    name = f"plain{next(_graphs)}"
    persistent = pika.BasicProperties(delivery_mode=2, content_type="application/json")
    for queue in (name, f"{name}.next"):
        channel.queue_declare(queue, durable=True, arguments=QUORUM)
    for n in range(PLAIN):
        channel.basic_publish("", name, b'{"n":%d}' % n, persistent, mandatory=True)
    channel.basic_qos(prefetch_count=256)
    began = time.perf_counter()
    for n, (method, _, body) in enumerate(channel.consume(name), 1):
        channel.basic_publish("", f"{name}.next", body, persistent, mandatory=True)
        channel.basic_ack(method.delivery_tag)
        if n == PLAIN:
            break
    seconds = time.perf_counter() - began
    connection.close()
    return PLAIN / seconds


def benchmarks():
    with private_broker() as broker:
        turns = [(plain(broker.url), ours(broker.url, ALONE, 1), ours(broker.url, TOGETHER, 256)) for _ in range(TURNS)]
    loops, alone, together = (list(each) for each in zip(*turns, strict=True))
    told = f"{statistics.median(loops):,.0f}/s for the loop"
    yield Row(
        "worker, many messages in a body / pika loop: messages a second",
        statistics.median(a / b for a, b in zip(together, loops, strict=True)),
        20,
        "at least",
        f"{statistics.median(together):,.0f}/s, {told}",
    )
    yield Row(
        "worker, each message by itself / pika loop: messages a second",
        statistics.median(a / b for a, b in zip(alone, loops, strict=True)),
        0.9,
        "at least",
        f"{statistics.median(alone):,.0f}/s, {told}",
    )
