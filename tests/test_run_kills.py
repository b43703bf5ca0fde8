"""A run that is killed, interrupted, or has no room: what it said was recorded is there, nothing is half written."""

import os
import random
import signal
import subprocess
import sys
from multiprocessing import get_context

import pytest

from flowstat.errors import OutputError, RunError
from flowstat.estimate.counting import count
from flowstat.read.canonical import open_writer
from flowstat.read.files import parse_graph
from flowstat.read.traces import read_traces
from flowstat.run.app import App
from flowstat.run.inject import spread
from flowstat.run.journal import read_journal, repair
from flowstat.run.loop import Limits

GRAPH = parse_graph("a -> b -> c -> a2; a -> d")
RUNS = 20_000
"""Of five events each."""


def recorded(folder, told):
    app = App(GRAPH, seed=8)

    def progress(events, runs, waiting):
        told.value = events

    with open_writer(folder / "t.parquet") as writer:
        limits = Limits(batch_rows=4096)
        app.run(spread(GRAPH, RUNS), writer, limits=limits, progress=progress, journal=folder / "j")
    told.value = 5 * RUNS


def whole(folder):
    """Return the journal of a killed run, mended; None if nothing had been accepted."""
    try:
        return repair(folder / "j")
    except RunError as problem:
        if "within its header" in str(problem) or "no journal" in str(problem) or "can't read" in str(problem):
            return None
        raise


def test_kills_at_200_random_moments(tmp_path):
    context, chance = get_context("fork"), random.Random(5)
    killed = within = 0
    for k in range(200):
        folder = tmp_path / str(k)
        folder.mkdir()
        told = context.Value("q", 0, lock=False)  # a killed process gives no lock back
        process = context.Process(target=recorded, args=(folder, told))
        moment, more = chance.randrange(-10_000, 90_000), chance.random() * 0.01
        process.start()
        while process.is_alive() and told.value < moment:
            process.join(0.0005)
        process.join(more)
        killed += process.is_alive()
        process.kill()
        process.join()
        said = told.value
        journal = whole(folder)
        if journal is None or not (folder / "t.parquet").exists():
            assert said == 0
            continue
        again = App(GRAPH).replay(folder / "j", against=folder / "t.parquet")
        assert again.differences == ()
        assert said <= again.compared <= again.run.events == 5 * again.run.runs
        assert again.run.runs == len(journal.entries) <= RUNS
        assert not list((folder / "t.parquet").glob("part*.tmp"))
        if said:
            counts = count(read_traces(folder / "t.parquet"))
            assert sum(counts.events.values()) >= said
            within += said < 5 * RUNS
    assert killed > 150
    assert within > 100


CODE = """
import sys
from flowstat.errors import OutputError
from flowstat.read.canonical import open_writer
from flowstat.run.loop import Limits
from tests.test_run_kills import *
try:
    with open_writer(sys.argv[1] + "/t.parquet") as writer:
        App(GRAPH).run(spread(GRAPH, 200_000), writer, limits=Limits(batch_rows=4096), journal=sys.argv[1] + "/j")
except OutputError as error:
    print(error)
"""


def test_a_full_disk_is_a_clear_end(tmp_path):
    """On a small tmpfs where one can be made, else with a limit on the size of files."""
    place, limited = (
        tmp_path / "small",
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000));",
    )
    place.mkdir()
    mounted = (
        os.getuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, check=False
        ).returncode
    )
    try:
        code = ("" if mounted else "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);" + limited) + CODE
        done = subprocess.run([sys.executable, "-c", code, str(place)], capture_output=True, text=True, check=True)
        assert "what was written before is readable" in done.stdout
        assert "No space left" in done.stdout or "too large" in done.stdout
        journal = read_journal(place / "j")
        assert journal.torn == 0
        again = App(GRAPH).replay(place / "j", against=place / "t.parquet")
        assert again.differences == ()
        assert again.compared == sum(count(read_traces(place / "t.parquet")).events.values())
    finally:
        if mounted:
            subprocess.run(["umount", str(place)], check=True)


def test_an_interrupt_is_a_clear_end(tmp_path):
    def ends(number=[0]):  # noqa: B006
        for k in range(10_000):
            if k == 3000:
                os.kill(os.getpid(), signal.SIGINT)
            yield ("a", "", k)

    with open_writer(tmp_path / "t.parquet") as writer:
        result = App(GRAPH).run(ends(), writer, journal=tmp_path / "j")
    assert result.interrupted
    again = App(GRAPH).replay(tmp_path / "j", against=tmp_path / "t.parquet")
    assert (again.differences, again.run.events) == ((), result.events)
    assert read_journal(tmp_path / "j").end["stopped"] == "interrupted."


def interrupted(folder, told):
    """Run, and say how many messages were accepted."""

    def progress(events, runs, waiting):
        told.value = events

    with open_writer(folder / "t.jsonl") as writer:
        limits = Limits(batch_rows=512)
        App(GRAPH, seed=8).run(spread(GRAPH, RUNS), writer, limits=limits, progress=progress, journal=folder / "j")


def test_interrupts_at_random_moments_leave_nothing_half_done(tmp_path):
    """One or two of them: the run ends by itself, and a replay makes its trace again, to the byte."""
    context, chance, ended = get_context("fork"), random.Random(7), 0
    for k in range(10):
        folder = tmp_path / str(k)
        folder.mkdir()
        told = context.Value("q", 0, lock=False)
        process = context.Process(target=interrupted, args=(folder, told))
        moment, more = chance.randrange(1, 20_000), chance.random() * 0.002
        process.start()
        while process.is_alive() and told.value < moment:
            process.join(0.0005)
        process.join(more)
        for _ in range(1 + k % 2):
            os.kill(process.pid, signal.SIGINT)
        process.join()
        assert process.exitcode in (0, 1)  # 1: when all was done, and Python itself was interrupted
        end = read_journal(folder / "j").end
        ended += end["stopped"] == "interrupted."
        with open_writer(folder / "again.jsonl") as writer:
            again = App(GRAPH).replay(folder / "j", writer, against=folder / "t.jsonl")
        assert again.differences == ()
        assert (folder / "again.jsonl").read_bytes() == (folder / "t.jsonl").read_bytes()
    assert ended > 4


def test_a_journal_that_can_not_be_written_ends_the_run(tmp_path):
    with pytest.raises(OutputError, match="can't write the journal"):
        App(GRAPH).run(spread(GRAPH, 1), journal=tmp_path / "a" / "b\0" / "j" if False else "/dev/null/j")
