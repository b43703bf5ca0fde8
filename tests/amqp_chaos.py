"""Workers and a broker that are killed while messages flow: what is to be true afterwards, whatever happened.

`python -m tests.amqp_chaos [MESSAGES]` runs it: three workers, one of them killed every few seconds, the broker killed
and started again twice.
"""

import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from random import Random
from time import monotonic, sleep

import orjson

from flowstat.estimate.counting import count
from flowstat.read.traces import read_traces
from flowstat.run.amqp import work
from flowstat.run.amqp_inject import inject
from flowstat.run.amqp_names import Names
from flowstat.run.amqp_rows import kept_of
from flowstat.run.amqp_wire import unpack
from tests.amqp_app import GRAPH, program
from tests.servers import private_broker

WORKERS = 3

BYTES = 2600
"""What a message's run takes of the traces at least."""


class Workers:
    """Worker processes; one that ends is followed by another until all is done."""

    def __init__(self, url, folder, log, **options):
        self.command = [sys.executable, "-m", "tests.amqp_app", url, str(folder)]
        self.command += [f"{key}={value}" for key, value in options.items()]
        self.log = log
        self.running = []
        self.started = 0

    def start(self):
        self.running.append(subprocess.Popen(self.command, stdout=self.log, stderr=self.log))
        self.started += 1

    def kill(self, random):
        victim = random.choice(self.running)
        victim.kill()
        victim.wait()
        self.running.remove(victim)

    def ended(self):
        """Take away those that ended, and return their exit codes."""
        ended = [worker for worker in self.running if worker.poll() is not None]
        self.running = [worker for worker in self.running if worker not in ended]
        return [worker.returncode for worker in ended]

    def close(self):
        for worker in self.running:
            worker.kill()
            worker.wait()


def chaos(broker, folder, messages, kills, broker_kills, seed=1, **options):
    """Inject messages; kill workers and the broker while they flow, each when so much more is recorded.

    Like a supervisor, it starts a worker for each that ends before its time: because it was killed, or found no broker.
    """
    random = Random(seed)
    folder.mkdir(exist_ok=True)
    plan = [("worker", (k + 1) / (kills + 1)) for k in range(kills)]
    plan += [("broker", (k + 0.5) / broker_kills) for k in range(broker_kills)]
    plan.sort(key=lambda each: each[1])
    began = monotonic()
    with (folder / ".log").open("ab") as log:
        workers = Workers(broker.url, folder, log, idle=3, **options)
        injector = threading.Thread(target=inject, args=(program(), broker.url, _messages(messages)), daemon=True)
        work(program(), broker.url, folder, idle=0)  # it declares the queues
        while not broker.remembers(map(Names("app").queue, GRAPH.nodes)):
            sleep(0.01)
        injector.start()
        killed = []
        try:
            for _ in range(WORKERS):
                workers.start()
            while workers.running or injector.is_alive():
                share = recorded(folder) / (messages * BYTES)
                if plan and share >= plan[0][1]:
                    killed.append((plan[0][0], round(monotonic() - began, 1)))
                    if plan.pop(0)[0] == "broker":
                        broker.kill()
                        broker.start()
                    else:
                        if not workers.running:
                            workers.start()
                        workers.kill(random)
                for code in workers.ended():
                    if code or plan:
                        workers.start()
                while killed and len(workers.running) < WORKERS and plan:
                    workers.start()
                if monotonic() - began > 1200:
                    raise AssertionError("too long: " + (folder / ".log").read_text())
                sleep(0.01)
        finally:
            workers.close()
    said = (folder / ".log").read_text()
    assert "Traceback" not in said, said
    assert not plan, plan
    return {"seconds": round(monotonic() - began, 1), "killed": killed, "workers": workers.started}


def _messages(messages):
    return (("order", "", number) for number in range(messages))


def recorded(folder):
    """Return how many bytes the workers have written."""
    return sum(path.stat().st_size for path in folder.glob("worker-*.jsonl"))


def check(folder, messages):
    """Assert that every injected message's run is complete, and that none was applied twice to the state."""
    traces = read_traces(folder)
    counts = count(traces, GRAPH)
    table, events = Counter(counts.table), counts.events
    retried = table["pay", "pay"]
    assert counts.starts == {"order": messages}
    assert events == {
        "order": messages,
        "pay": messages + retried,
        "check": messages,
        "ship": 2 * messages,
        "count": 2 * messages,
    }
    assert (table["pay", "ship"], table["check", "ship"], table["ship", "count"]) == (messages, messages, 2 * messages)
    assert not counts.pending
    assert not counts.dropped
    assert not counts.errors
    # By run: a tree whose every message was handled, and sent by the event it names.
    sent, handled, applied, turns = Counter(), Counter(), Counter(), []
    for path in folder.glob("worker-*.jsonl"):
        for line in path.read_bytes().splitlines(keepends=True):
            row = orjson.loads(line) if line.endswith(b"\n") else {"status": "pending"}
            if row["status"] == "ok" and row["name"] == "count":
                kept = kept_of(row, str(path))
                turns.append(kept.turn)
                applied[unpack(kept.body)] += 1
    assert applied == dict.fromkeys(range(messages), 2)
    assert sorted(turns) == list(range(1, 2 * messages + 1))
    frame = traces.frame()
    frame = frame[frame.status == "ok"].drop_duplicates(["trace_id", "span_id"])
    assert frame.trace_id.nunique() == messages
    for trace, span, parent, name, pattern in frame[["trace_id", "span_id", "parent_id", "name", "sent"]].values:
        handled[trace, parent, name] += 1
        for target in pattern.split():
            node, _, times = target.partition("*")
            sent[trace, span, node] += int(times or 1)
    roots = {key: n for key, n in handled.items() if not isinstance(key[1], str)}
    assert len(roots) == messages
    assert handled - Counter(roots) == sent
    return {"events": sum(events.values()), "retried": retried, "problems": [p.what for p in counts.problems]}


if __name__ == "__main__":
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with private_broker() as broker, tempfile.TemporaryDirectory() as place:
        print(chaos(broker, Path(place), number, kills=8, broker_kills=2))
        print((Path(place) / ".log").read_text())
        print(check(Path(place), number))
