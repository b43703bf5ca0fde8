"""Traces on disk: the same bytes for the same seed, and what a killed run leaves."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flowstat.read.canonical import open_writer
from flowstat.read.files import parse_graph
from flowstat.read.traces import read_traces
from flowstat.run.app import App
from flowstat.run.loop import Limits

PROGRAM = """
import os, signal, sys
from flowstat.read.canonical import open_writer
from flowstat.read.files import parse_graph
from flowstat.run.app import App
from flowstat.run.loop import Limits
from flowstat.run.simulate import simulate

path, what, kill_at = sys.argv[1], sys.argv[2], int(sys.argv[3])
graph = parse_graph('order -> pay; pay/retry.* -> pay; pay/ok -> ship, "notify us"; order -> audit')
app = App(graph, seed=5)
handled = 0

@app.on("pay", state=dict)
def pay(state, message, ctx):
    global handled
    handled += 1
    if handled == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
    chance = ctx.random.random()
    if chance < 0.1:
        raise ValueError("declined")
    ctx.emit(key="lost" if chance < 0.2 else f"retry.{handled}" if chance < 0.4 else "ok")

limits = Limits(batch_rows=500, max_events=5000)
with open_writer(path) as writer:
    if what == "run":
        app.run((("order", "", n) for n in range(10**6)), writer, limits=limits)
    else:
        simulate(graph, 10**6, 5, writer, limits=limits)
"""


def program(path, what="run", kill_at=0, seed="0"):
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path), what, str(kill_at)],
        env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[1])},
        check=False,
        timeout=120,
    ).returncode


def contents(path):
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [(file.name if path.is_dir() else "", file.read_bytes()) for file in files]


def rows_of(path):
    return [row for batch in read_traces(path).batches() for row in batch.to_pylist()]


@pytest.mark.parametrize("what", ["run", "simulate"])
@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_the_same_seed_gives_the_same_bytes(tmp_path, what, ending):
    first, second = tmp_path / f"first.{ending}", tmp_path / f"second.{ending}"
    assert program(first, what, seed="1") == program(second, what, seed="2") == 0
    assert contents(first) == contents(second)
    assert len(rows_of(first)) > 5000


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_a_killed_run_leaves_all_but_its_last_batch(tmp_path, ending):
    whole, cut = tmp_path / f"whole.{ending}", tmp_path / f"cut.{ending}"
    assert program(whole) == 0
    assert program(cut, kill_at=1000) == -signal.SIGKILL
    all_rows, rows = rows_of(whole), rows_of(cut)
    assert rows == all_rows[: len(rows)]
    handled = [n for n, row in enumerate(all_rows) if row["name"] == "pay"][999]
    # A batch ends with the event that fills it, so it may be longer by that event's dropped emits.
    assert handled - 500 - 2 <= len(rows) <= handled
    assert len(rows) > 1000


@pytest.mark.parametrize("clock", [None, time.time_ns])
def test_both_formats_hold_the_same_rows(tmp_path, clock):
    ticks = {}

    def ticking(name):
        def tick():
            ticks[name] = ticks.get(name, 1_700_000_000_123_456_789) + 1001
            return ticks[name]

        return tick if clock else None

    for name in ("t.parquet", "t.jsonl"):
        app = App(parse_graph("a -> b; b/x -> a"))
        app.on("b")(lambda state, message, ctx: ctx.emit(key="x" if ctx.random.random() < 0.5 else "y"))
        with open_writer(tmp_path / name) as writer:
            app.run([("a", "ключ", 1)] * 100, writer, clock=ticking(name), limits=Limits(batch_rows=37))
    rows = rows_of(tmp_path / "t.parquet")
    assert rows == rows_of(tmp_path / "t.jsonl")
    assert rows[0]["key"] == "ключ"
    assert (rows[0]["started_at"] is None) == (clock is None)
    assert "dropped" in {row["status"] for row in rows}


def test_a_full_disk_leaves_a_readable_trace(tmp_path):
    """A file size limit stands for the disk's end; the part of a line that fitted is taken back."""
    program = """
import resource, signal, sys
from flowstat.errors import OutputError
from flowstat.read.canonical import open_writer
from flowstat.read.files import parse_graph
from flowstat.run.app import App
from flowstat.run.loop import Limits
app = App(parse_graph("a -> a"))
with open_writer(sys.argv[1]) as writer:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        app.run([("a", "", None)], writer, limits=Limits(batch_rows=100, max_events=10_000))
    except OutputError as error:
        print(error)
"""
    path = tmp_path / "t.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        env={"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "t.jsonl: File too large; what was written before is readable" in done.stdout
    rows = rows_of(path)
    assert rows
    assert len(rows) % 100 == 0
