from collections import Counter

import pytest

from flowstat.errors import RunError
from flowstat.read.files import parse_graph
from flowstat.read.graph import Arrow, Graph
from flowstat.run.loop import Limits
from flowstat.run.simulate import simulate
from tests.tracing import record


def walk(text, runs, **options):
    graph = text if isinstance(text, Graph) else parse_graph(text)
    return record(lambda writer: simulate(graph, runs, writer=writer, **options))


def test_arrows_are_drawn_by_their_shares_within_four_standard_errors():
    n = 20_000
    _, rows = walk("a/retry -> b @0.3; a/ok -> b @0.5; a/x.* -> c @0.1", n, seed=3)
    at_a = Counter((r["key"], r["name"]) for r in rows.rows if r["parent"] == "a")
    stops = sum(r["name"] == "a" and r["sent"] == "" for r in rows.rows)
    expected = {("retry", "b"): 0.3, ("ok", "b"): 0.5, (None, "c"): 0.1}
    assert set(at_a) == set(expected)
    for what, share in [*((at_a[k], p) for k, p in expected.items()), (stops, 0.1)]:
        assert abs(what - n * share) < 4 * (n * share * (1 - share)) ** 0.5


def test_a_retry_loop_has_its_geometric_mean():
    n = 20_000
    result, _ = walk("a -> a @0.75; a -> b", n, seed=1)
    # Events per run: 1/(1-p) at a, with variance p/(1-p)^2, and one at b.
    assert abs(result.events / n - 5) < 4 * (12 / n) ** 0.5
    assert result.stopped is None


def test_starts_take_turns():
    _, rows = walk("a -> c; b -> c", 4)
    assert [r["name"] for r in rows.rows if r["parent"] is None] == ["a", "b", "a", "b"]
    _, rows = walk("a -> c; b -> c", 2, starts=["c"])
    assert rows.column("name") == ["c", "c"]
    with pytest.raises(RunError, match="no node 'z'"):
        walk("a -> c", 2, starts=["z"])


@pytest.mark.parametrize("text", ["a -> a", "a -> b -> a"])
def test_a_loop_without_an_exit_ends_at_max_events(text):
    result, rows = walk(text, 10, limits=Limits(max_events=100))
    assert (result.events, sum(result.pending.values())) == (100, 1)
    assert rows.column("status") == ["ok"] * 100 + ["pending"]
    assert "max_events" in result.stopped


def test_shares_of_one_never_stop_and_of_nought_are_never_taken():
    tenths = " ".join(f"a -> n{k} @0.1;" for k in range(10))
    result, rows = walk(tenths + "a -> never @0;", 20_000, starts=["a"])
    assert result.events == 40_000
    assert "never" not in rows.column("name")
    result, rows = walk("a -> b @0", 10, starts=["a"])
    assert rows.column("name") == ["a"] * 10


def test_wide_graphs_keep_memory_bounded(monkeypatch):
    monkeypatch.setattr("flowstat.run.network.KEPT", 10)
    graph = Graph.of(
        [Arrow("a", f"k{n}", f"n{n}") for n in range(200)] + [Arrow(f"n{n}", "#", "a", 0.5) for n in range(200)]
    )
    _, small = walk(graph, 500, seed=2, starts=["a"], limits=Limits(batch_rows=50))
    _, large = walk(graph, 500, seed=2, starts=["a"])
    assert small.rows == large.rows


def test_graphs_of_one_node_and_of_no_run():
    result, rows = walk("a", 3)
    assert (result.events, rows.column("sent")) == (3, [""] * 3)
    assert walk("a", 0)[0].events == 0
    with pytest.raises(RunError, match="no node to start at"):
        walk(Graph.of(), 1)
