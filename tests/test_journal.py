"""The journal of a run, its repair, and replay."""

import os
import random
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowstat.errors import OutputError, RunError
from flowstat.read.canonical import open_writer
from flowstat.read.files import parse_graph
from flowstat.run.app import App
from flowstat.run.behaviour import Retry
from flowstat.run.digest import digest
from flowstat.run.inject import spread
from flowstat.run.journal import read_journal, repair
from flowstat.run.journal_writer import JournalWriter
from flowstat.run.latencies import LatencyLaw, VirtualTime
from flowstat.run.loop import Limits

GRAPH = parse_graph("order -> pay; pay/retry -> pay; pay/ok -> ship; pay/failed -> dead; order/late -> remind -> pay")


def make(seed=7, luck=None, bad=None):
    app = App(GRAPH, seed)

    @app.on("order", state=dict)
    def order(state, message, ctx):
        state["seen"] = state.get("seen", 0) + 1
        ctx.after(5.0, "late", {"n": state["seen"]})
        ctx.emit(message.body, "x")

    @app.on("pay", retry=Retry(2, 0.5))
    async def pay(state, message, ctx):
        await ctx.sleep(0.001)
        if (luck or ctx.random).random() < 0.3:
            raise ValueError("no")
        ctx.emit(bad() if bad else message.body, "ok")

    @app.on("ship", state=list)
    def ship(state, message, ctx):
        state.append(message.body)

    return app


def same_bytes(one, other):
    files = [sorted(p.relative_to(root) for p in root.rglob("*")) for root in (one, other)]
    return files[0] == files[1] and all((one / f).read_bytes() == (other / f).read_bytes() for f in files[0])


CLOCKS = {
    "none": None,
    "virtual": VirtualTime({("order", "pay"): 1.0, ("pay", "ship"): LatencyLaw(2, 1)}, every=LatencyLaw(1, 1)),
    "wall": time.time_ns,
}


@pytest.mark.parametrize("clock", CLOCKS)
def test_a_replay_gives_the_same_bytes_and_states(tmp_path, clock, monkeypatch):
    if clock == "wall":  # real timers would be waited for
        at = [1_700_000_000_000_000_000]
        monkeypatch.setattr("flowstat.run.drive.sleep", lambda s: at.__setitem__(0, at[0] + round(s * 1e9)))

        def ticking():
            at[0] += 1000
            return at[0]

    told = ticking if clock == "wall" else CLOCKS[clock]
    injections = [("order", "", {"k": k}) for k in range(60)]
    with open_writer(tmp_path / "a.parquet") as writer:
        done = make().run(injections, writer, clock=told, journal=tmp_path / "j", limits=Limits(batch_rows=64))
    with open_writer(tmp_path / "b.parquet") as writer:
        again = make(seed=99).replay(tmp_path / "j", writer, against=tmp_path / "a.parquet")
    assert again.differences == ()
    assert again.compared == again.run.events == done.events
    assert same_bytes(tmp_path / "a.parquet", tmp_path / "b.parquet")


@pytest.mark.parametrize("limits", [Limits(max_events=50), Limits(max_queue=3)])
def test_a_run_that_was_stopped_is_stopped_again(tmp_path, limits):
    with open_writer(tmp_path / "a.jsonl") as writer:
        done = make().run(spread(GRAPH, 100), writer, journal=tmp_path / "j", limits=limits)
    assert done.stopped
    again = make().replay(tmp_path / "j", against=tmp_path / "a.jsonl")
    assert (again.differences, again.run.stopped, again.run.pending) == ((), done.stopped, done.pending)


@pytest.mark.parametrize("clock", ["none", "virtual"])
def test_real_chance_is_caught_and_named(tmp_path, clock):
    with open_writer(tmp_path / "a.parquet") as writer:
        make(luck=random.Random(1)).run(spread(GRAPH, 50), writer, clock=CLOCKS[clock], journal=tmp_path / "j")
    found = make(luck=random.Random(2)).replay(tmp_path / "j", against=tmp_path / "a.parquet").differences
    assert found[0].node == "pay"
    assert "differs at event" in found[0].sentence()


def test_a_clock_of_its_own_shows_in_the_states(tmp_path):
    make(bad=iter(range(1000)).__next__).run(spread(GRAPH, 5), journal=tmp_path / "j")
    found = make(bad=iter(range(7, 1000)).__next__).replay(tmp_path / "j").differences
    assert [(d.node, d.what) for d in found] == [("ship", "the state's digest at the end")]


def test_another_graph_is_refused(tmp_path):
    App(parse_graph("a -> b")).run([("a", "", 1)], journal=tmp_path / "j")
    with pytest.raises(RunError, match="another graph"):
        App(parse_graph("a -> c")).replay(tmp_path / "j")


def test_a_replay_ends_where_the_journal_of_a_killed_run_does(tmp_path):
    with open_writer(tmp_path / "a.parquet") as writer:
        make().run(spread(GRAPH, 30), writer, journal=tmp_path / "j")
    data = (tmp_path / "j").read_bytes()
    whole = read_journal(tmp_path / "j")
    for cut in range(len(data) - 1, 40, -23):
        (tmp_path / "cut").write_bytes(data[:cut])
        found = repaired(tmp_path / "cut")
        if found is None:
            break
        assert found.entries == whole.entries[: len(found.entries)]
        assert (tmp_path / "cut").stat().st_size == found.size == cut - found.torn
        assert read_journal(tmp_path / "cut").torn == 0
    assert found is None


def repaired(path):
    """Return the journal of a killed run, or None if nothing had been accepted."""
    try:
        return repair(path)
    except RunError as problem:
        if "within its header" in str(problem) or "no journal" in str(problem):
            return None
        raise


def test_damage_before_the_end_is_said_with_its_place(tmp_path):
    make().run(spread(GRAPH, 5), journal=tmp_path / "j")
    data = bytearray((tmp_path / "j").read_bytes())
    data[data.index(b"order")] ^= 1
    (tmp_path / "j").write_bytes(data)
    with pytest.raises(RunError, match="damaged at byte"):
        read_journal(tmp_path / "j")
    (tmp_path / "j").write_bytes(b"PAR1")
    with pytest.raises(RunError, match="no journal"):
        read_journal(tmp_path / "j")
    with pytest.raises(RunError, match="can't read"):
        read_journal(tmp_path / "none")


def test_a_file_that_is_there_is_kept(tmp_path):
    (tmp_path / "j").write_text("mine")
    with pytest.raises(OutputError, match="there already"):
        make().run([], journal=tmp_path / "j")
    assert (tmp_path / "j").read_text() == "mine"


BODIES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(st.tuples(st.just("a"), st.text(), BODIES), max_size=6))
def test_what_is_written_is_read(tmp_path_factory, injections):
    path = tmp_path_factory.mktemp("j") / "j"
    with JournalWriter(path, {"x": 1}) as journal:
        for k, injection in enumerate(injections):
            assert journal.add(injection, k, k) == injection
        journal.end({"events": 1})
    found = read_journal(path)
    assert [entry[:3] for entry in found.entries] == injections
    assert (found.header, found.end, found.torn) == ({"x": 1}, {"events": 1}, 0)


@pytest.mark.parametrize("body", [(1, 2), {1, 2}, {"a": (1,)}, 2**70, {1: "a", "b": [True, (0,)]}, float("nan")])
def test_a_body_that_would_come_back_as_another_is_refused(tmp_path, body):
    with pytest.raises(RunError, match="can't keep"):
        make().run([("order", "", body)], journal=tmp_path / "j")
    assert not (tmp_path / "j").exists()


def test_the_same_bytes_whatever_the_hash_seed(tmp_path):
    code = (
        "import sys; from pathlib import Path; from tests.test_journal import *\n"
        "with open_writer(sys.argv[1]) as writer:\n"
        "    make().run(spread(GRAPH, 50), writer, clock=CLOCKS['virtual'], journal=sys.argv[2])\n"
    )
    for seed in ("1", "2"):
        paths = [str(tmp_path / f"{seed}.parquet"), str(tmp_path / f"{seed}.journal")]
        env = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", code, *paths], check=True, env=env)
    assert same_bytes(tmp_path / "1.parquet", tmp_path / "2.parquet")
    assert (tmp_path / "1.journal").read_bytes() == (tmp_path / "2.journal").read_bytes()


class Thing:
    def __init__(self, x):
        self.x = x
        self.me = self


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ({"a": 1}, {"a": 1}, True),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, False),
        ({1, 2, "x"}, {"x", 2, 1}, True),
        (1, True, False),
        (1, 1.0, False),
        ("1", b"1", False),
        ([1, [2]], [1, [2]], True),
        ([[1], [2]], [[1, 2]], False),
        (Thing(1), Thing(1), True),
        (Thing(1), Thing(2), False),
        (LatencyLaw(1), LatencyLaw(1), True),
        (float("nan"), float("nan"), True),
        (dict, dict, True),
        (dict, list, False),
    ],
)
def test_equal_values_have_equal_digests(one, other, equal):
    assert (digest(one) == digest(other)) is equal


def test_what_has_no_digest():
    with open(os.devnull) as file:
        for value in ((x for x in ()), file, {"lock": threading.Lock()}):
            with pytest.raises(RunError, match="no digest"):
                digest(value)
