"""Latencies and arrivals in virtual time, and the feeds."""

import statistics
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowstat.errors import RunError
from flowstat.read.files import parse_graph
from flowstat.run.app import App
from flowstat.run.feeds import Ended, VirtualFeed, WallFeed
from flowstat.run.inject import spread
from flowstat.run.latencies import LatencyLaw, VirtualTime
from flowstat.run.loop import Limits
from tests.tracing import record

GRAPH = parse_graph("a -> b -> c; a -> d")


def lasted(rows, name):
    return [(r["started_at"] - r["sent_at"]).total_seconds() for r in rows.rows if r["name"] == name]


def test_messages_are_under_way_as_long_as_their_law_says():
    clock = VirtualTime({("a", "b"): LatencyLaw(2.0, 0.5), ("b", "c"): 0.25, (None, "a"): 1.5})
    _, rows = record(lambda writer: App(GRAPH, seed=3).run(spread(GRAPH, 4000), writer, clock=clock))
    assert set(lasted(rows, "a")) == {1.5}
    assert set(lasted(rows, "c")) == {0.25}
    assert set(lasted(rows, "d")) == {0}
    drawn = lasted(rows, "b")
    # Four standard errors; that of a deviation is about sd / sqrt(2 n), more for the heavier tail.
    assert statistics.mean(drawn) == pytest.approx(2.0, abs=4 * 0.5 / 4000**0.5)
    assert statistics.stdev(drawn) == pytest.approx(0.5, abs=6 * 0.5 / 8000**0.5)


def test_runs_overlap_when_they_come_faster_than_they_end():
    clock = VirtualTime(latencies=1.0, every=0.25)
    _, rows = record(lambda writer: App(GRAPH).run(spread(GRAPH, 20), writer, clock=clock))
    roots = [r["started_at"] for r in rows.rows if r["parent"] is None]
    assert [(b - a).total_seconds() for a, b in pairwise(roots)] == [0.25] * 19
    assert rows.column("trace_id") != sorted(rows.column("trace_id"))
    assert sorted(rows.column("trace_id")) == sorted(4 * list(range(1, 21)))
    # Rows come in the order in which they were handled.
    times = [r["started_at"] for r in rows.rows]
    assert times == sorted(times)


def test_without_arrivals_runs_follow_one_another():
    _, rows = record(lambda writer: App(GRAPH).run(spread(GRAPH, 5), writer, clock=VirtualTime(1.0)))
    assert rows.column("trace_id") == sorted(rows.column("trace_id"))


@given(st.integers(0, 2**32), st.floats(0.001, 5), st.floats(0, 5))
def test_the_same_seed_gives_the_same_trace_and_latencies_change_no_draw(seed, mean, sd):
    def drawn(clock):
        app = App(GRAPH, seed=seed)
        found = []
        app.on("a")(lambda state, message, ctx: found.append(ctx.random.random()))
        _, rows = record(lambda writer: app.run(spread(GRAPH, 5), writer, clock=clock))
        return found, rows.rows

    clock = VirtualTime(LatencyLaw(mean, sd), every=LatencyLaw(mean, sd))
    assert drawn(clock) == drawn(clock)
    assert drawn(clock)[0] == drawn(None)[0]


def test_recorded_latencies_are_drawn_as_often_as_they_weigh():
    clock = VirtualTime({("a", "b"): LatencyLaw(values=(0.1, 0.2, 0.3, 0.4), weights=(0, 1, 3, 0))})
    _, rows = record(lambda writer: App(GRAPH, seed=1).run(spread(GRAPH, 8000), writer, clock=clock))
    drawn = lasted(rows, "b")
    assert set(drawn) == {0.2, 0.3}
    assert drawn.count(0.2) / 8000 == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / 8000) ** 0.5)


@pytest.mark.parametrize("law", [-1.0, float("nan"), "1", True, LatencyLaw, None, {("a",): 1.0}, {"ab": 1.0}])
def test_what_is_no_latency(law):
    with pytest.raises(RunError):
        VirtualTime(law)


def test_latencies_that_make_no_sense():
    for wrong in ((0.0, 1.0), (float("inf"),), (1.0, -1.0), (1, 0, (1.0,), (0.0,)), (1, 0, (1.0,), (1.0, 2.0))):
        with pytest.raises(RunError):
            LatencyLaw(*wrong)
    with pytest.raises(RunError, match="no node 'x'"):
        App(GRAPH).run([], clock=VirtualTime({("a", "x"): 1.0}))
    with pytest.raises(RunError, match="starts at"):
        VirtualTime(start=-1)


def test_virtual_time_is_kept_as_data():
    for clock in (
        VirtualTime(),
        VirtualTime(0.5, 2, 7),
        VirtualTime({(None, "a"): LatencyLaw(1, 2), ("a", "b"): LatencyLaw(values=(1.0,), weights=(2.0,))}),
    ):
        kept = clock.to_dict()
        assert VirtualTime.of(kept).to_dict() == kept


def test_messages_under_way_count_as_waiting_and_are_recorded_as_pending():
    app = App(parse_graph("a -> a; a -> a2"))
    clock = VirtualTime({("a", "a2"): 100.0, ("a", "a"): 1.0})
    result, rows = record(lambda writer: app.run([("a", "", None)], writer, limits=Limits(max_queue=5), clock=clock))
    assert "message storm" in result.stopped
    assert sum(result.pending.values()) == 6
    assert rows.column("status").count("pending") == 6


def test_a_wall_feed_waits_for_timers_and_takes_messages_meanwhile():
    now, slept = [0], []

    def sleep(seconds):
        slept.append(seconds)
        now[0] += round(seconds * 1e9)

    feed = WallFeed([("a", "", 1)], lambda: now[0], sleep)
    assert not feed.due(5, 0, 0)
    assert feed.take(2_000_000_000, 0) == ("a", "", 1)
    assert feed.take(2_000_000_000, 0) is None
    assert slept == [2.0]
    assert feed.due(2_000_000_000, 0, 0)
    with pytest.raises(Ended):
        feed.take(None, 0)


def test_virtual_arrivals_that_are_late_come_at_once():
    feed = VirtualFeed([("a", "", k) for k in range(3)], 0, lambda: 10)
    assert feed.take(None, 0) == ("a", "", 0)
    assert feed.take(25, 0) == ("a", "", 1)
    assert (feed.now(), feed.due(25, 0, 0)) == (10, False)
    assert feed.take(15, 0) is None
    assert feed.take(100, 0) == ("a", "", 2)
    assert feed.now() == 20
    assert feed.take(100, 0) is None
    with pytest.raises(Ended):
        feed.take(None, 0)
