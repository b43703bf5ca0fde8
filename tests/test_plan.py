"""Test plans: that they cover what they say, that no fewer runs do, and that a run follows them."""

import json
from heapq import heappop, heappush

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import flowstat as fs
from flowstat.errors import AnalysisError, ChainError, RunError
from flowstat.explain.plan_steps import key_for
from flowstat.read.topics import matches
from flowstat.run.inject import read_injections
from tests.strategies import graphs, keys

ORDERS = """
order -> validate; validate/ok -> reserve; validate/rejected.# -> rejected @0.05;
reserve/ok -> payment; reserve/short -> backorder @0.15; backorder/wait -> restock -> reserve;
backorder/cancelled -> cancelled @0.05; payment/retry.* -> payment @0.1; payment/declined -> declined @0.05;
payment/ok -> ship; ship -> notify, invoice; invoice -> ledger;
"""


def taken_by(graph, run):
    """Return the arrows that a run takes, and the pairs of them; its tree has to be the graph's."""

    def of(k):
        if run.keys[k] is None:
            return set()
        return {a for a, x in enumerate(graph.arrows) if x.source == run.walk[k] and matches(x.key, run.keys[k])}

    arrows, pairs = set(), set()
    for k, parent in enumerate(run.parents):
        children = [run.walk[c] for c, p in enumerate(run.parents) if p == k]
        assert sorted(children) == sorted({graph.arrows[a].target for a in of(k)})
        arrows |= of(k)
        if parent is not None:
            assert parent < k
            pairs |= {(a, b) for a in of(parent) if graph.arrows[a].target == run.walk[k] for b in of(k)}
    return arrows, pairs


def covered(graph, plan):
    each = [taken_by(graph, run) for run in plan.runs]
    return set().union(*(a for a, _ in each)), set().union(*(p for _, p in each))


def least_flow(graph, starts, ends):
    """Return the fewest runs and events that cover all arrows of a graph without fan-out, by network simplex."""
    flow = nx.DiGraph()
    many = 10_000
    for node in graph.nodes:
        flow.add_node(node, demand=0)
    for arrow in graph.arrows:
        # One message has to go along each arrow, as many more as needed can.
        flow.nodes[arrow.source]["demand"] += 1
        flow.nodes[arrow.target]["demand"] -= 1
        flow.add_edge(arrow.source, arrow.target, weight=1)
    for node in graph.nodes:
        if node in starts:
            flow.add_edge("(begin)", node, weight=many)
        if node in ends:
            flow.add_edge(node, "(begin)", weight=0)
    cost, _ = nx.network_simplex(flow)
    runs = cost // many
    return runs, cost % many + len(graph.arrows) + runs


@pytest.mark.parametrize("seed", range(40))
def test_without_fan_out_it_is_the_minimum_flow(seed):
    random = np.random.default_rng(seed)
    n = int(random.integers(2, 9))
    names = [f"n{k}" for k in range(n)]
    # Every node is come to from the one before; the last one is where runs end.
    pairs = {(k, k + 1) for k in range(n - 1)}
    for _ in range(int(random.integers(0, 14))):
        i, j = random.integers(0, n - 1), random.integers(0, n)
        pairs.add((int(i), int(j)))
    graph = fs.Graph.of([fs.Arrow(names[i], f"to{j}", names[j]) for i, j in sorted(pairs)])
    found = fs.plan(graph, start="n0")
    assert covered(graph, found)[0] == set(range(len(graph.arrows)))
    runs, events = least_flow(graph, {"n0"}, {names[-1]})
    assert (len(found.runs), found.events) == (runs, events)
    assert (found.least, found.least_events) == (runs, events)
    assert not found.uncovered


def brute(graph, start, most=5):
    """Return the fewest runs that cover all arrows, by playing everything that can happen: each event takes one key."""
    steps = {}
    for node in graph.nodes:
        mine = [(a, x) for a, x in enumerate(graph.arrows) if x.source == node]
        steps[node] = {
            (
                frozenset(a for a, x in mine if matches(x.key, key)),
                tuple(sorted({x.target for _, x in mine if matches(x.key, key)})),
            )
            for key in {x.key for _, x in mine}
        }
    goal = frozenset(range(len(graph.arrows)))
    heap = [(0, 0, (), frozenset())]
    seen, serial = {}, 0
    while heap:
        runs, _, messages, done = heappop(heap)
        if seen.get((messages, done), 99) <= runs:
            continue
        seen[messages, done] = runs
        if not messages and done == goal:
            return runs
        onward = []
        if not messages:
            onward.append((runs + 1, (start,), done))
        else:
            node, rest = messages[0], messages[1:]
            if not steps[node]:
                onward.append((runs, rest, done))
            onward += [(runs, tuple(sorted((*rest, *targets))), done | taken) for taken, targets in steps[node]]
        for count, then, got in onward:
            if len(then) <= most:
                serial += 1
                heappush(heap, (count, serial, then, got))
    raise AssertionError("no plan")


@pytest.mark.parametrize("seed", range(30))
def test_with_fan_out_no_fewer_runs_do(seed):
    random = np.random.default_rng(seed)
    n = int(random.integers(3, 6))
    names = [f"n{k}" for k in range(n)]
    arrows = {fs.Arrow(names[k], "a", names[k + 1]) for k in range(n - 1)}
    for _ in range(int(random.integers(1, 6))):
        i, j = random.integers(0, n - 1), random.integers(0, n)
        arrows.add(fs.Arrow(names[i], str(random.choice(["a", "b", "b", "c"])) if j > i else "z", names[j]))
    graph = fs.Graph.of(sorted(arrows))
    found = fs.plan(graph, start="n0")
    assert covered(graph, found)[0] == set(range(len(graph.arrows)))
    assert len(found.runs) == found.least == brute(graph, "n0")
    assert found.events == found.least_events


def test_pairs_are_all_pairs():
    graph = fs.parse_graph(ORDERS)
    found = fs.plan(graph, "pairs")
    arrows, pairs = covered(graph, found)
    wanted = {(a, b) for a, x in enumerate(graph.arrows) for b, y in enumerate(graph.arrows) if x.target == y.source}
    assert arrows == set(range(len(graph.arrows)))
    assert pairs == wanted
    assert found.total == len(wanted) + len(graph.arrows) == found.covered
    assert len(found.runs) == found.least == 6


@given(graphs(components=0), st.sampled_from(["arrows", "pairs"]))
def test_any_graph_has_a_plan(graph, by):
    if not graph.nodes or "(end)" in graph.nodes:
        return
    found = fs.plan(graph, by)
    arrows, pairs = covered(graph, found)
    assert len(arrows) + (len(pairs) if by == "pairs" else 0) == found.covered
    assert found.covered + len(found.uncovered) == found.total
    assert found.least <= len(found.runs)
    # What is not covered can't be: no start leads there.
    seen, queue = set(), [n for n in graph.nodes if n in graph.starts]
    while queue:
        node = queue.pop()
        if node not in seen:
            seen.add(node)
            queue += [arrow.target for arrow in graph.outgoing[node]]
    assert {a for a, x in enumerate(graph.arrows) if x.source in seen} == arrows
    for run in found.runs:
        last = [n for n, key in zip(run.walk, run.keys, strict=True) if key is None]
        assert run.open or all(not graph.outgoing[n] or graph.expected_stop(n) > 0 for n in last)
    json.dumps(found.to_dict(), allow_nan=False)
    assert str(found)


@given(keys, st.lists(keys, max_size=3))
def test_a_key_is_taken_by_its_own_arrow(pattern, others):
    assert matches(pattern, key_for(pattern, others))


def test_arrows_that_no_run_comes_to_are_named():
    found = fs.plan(fs.parse_graph('a -> b; c/"k 1" -> d; d -> c;'))
    assert found.uncovered == ('c/"k 1" -> d', "d -> c")
    assert any("No run comes to 2 of them" in note for note in found.notes())
    assert fs.plan(fs.parse_graph("a -> b; c -> d; d -> c; d -> e"), start="c").uncovered == ("a -> b",)


def test_a_loop_that_no_message_comes_to_by_itself_is_started():
    # Numbers that balance are not enough: a -> b -> a would, without a run.
    graph = fs.parse_graph("a -> b; b -> a; c -> d; d/x -> e; e/y -> d;")
    chain = fs.Chain.from_matrix(
        fs.estimate(fs.Counts(), graph).P, graph.nodes, {"a": 0.5, "c": 0.5}, stop=fs.estimate(fs.Counts(), graph).stop
    )
    found = fs.plan(chain)
    assert {run.node for run in found.runs} == {"a", "c"}
    assert found.covered == found.total
    assert all(run.open for run in found.runs)


def test_of_a_chain_without_a_graph_each_pair_is_an_arrow():
    P = [[0, 0.5, 0.5, 0], [0.25, 0, 0.5, 0.25], [0, 0.5, 0.5, 0], [0, 0, 0, 0]]
    chain = fs.Chain.from_matrix(P, ["a", "b", "c", "d"], "a", stop=[0, 0, 0, 1])
    found = fs.plan(chain)
    assert found.total == found.covered == 7
    taken = {pair for run in found.runs for pair in zip(run.walk, run.walk[1:], strict=False)}
    assert taken == {("a", "b"), ("a", "c"), ("b", "a"), ("b", "c"), ("b", "d"), ("c", "b"), ("c", "c")}
    assert len(found.runs) == 1
    assert found.runs[0].keys[:-1] == found.runs[0].walk[1:]
    assert fs.plan(chain, "pairs").uncovered == ()


def test_where_nothing_ends_runs_are_cut_off():
    found = fs.plan(fs.parse_graph("start -> poll; poll -> wait; wait -> poll"))
    (run,) = found.runs
    assert run.walk == ("start", "poll", "wait", "poll")
    assert run.open
    assert any("cut off" in note for note in found.notes())


def test_the_most_probable_runs_are_the_variants():
    graph = fs.parse_graph(ORDERS)
    chain = fs.estimate(fs.Counts(), graph)
    found = fs.plan(chain, "probable", runs=5)
    assert [(r.walk, r.probability) for r in found.runs] == [
        (v.nodes, v.probability) for v in fs.variants(chain, 5).variants
    ]
    assert found.least is None
    few = fs.plan(fs.parse_graph("a -> b"), "probable")
    assert len(few.runs) == 1
    assert any("no more runs" in note for note in few.notes())


def test_runs_by_chance_are_the_same_for_the_same_seed():
    graph = fs.parse_graph(ORDERS)
    one, same, other = (fs.plan(graph, "random", runs=50, seed=seed) for seed in (1, 1, 2))
    assert one.runs == same.runs != other.runs
    assert len(one.runs) == 50
    for run in one.runs:
        for node, key, onward in zip(run.walk, run.keys, run.walk[1:], strict=False):
            assert any(matches(a.key, key) and a.target == onward for a in graph.outgoing[node])


def test_runs_along_arrows_that_the_graph_lacks_are_left_out_and_said():
    graph = fs.parse_graph("a -> b")
    counts = fs.Counts({("a", "b"): 5, ("a", "c"): 5, ("b", ""): 5, ("c", ""): 5}, {"a": 10})
    found = fs.plan(fs.estimate(counts, graph), "probable")
    assert [run.walk for run in found.runs] == [("a", "b")]
    assert any("1 run left out" in note for note in found.notes())
    assert fs.plan(fs.estimate(counts, graph)).total == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"by": "walks"}, "not by walks"),
        ({"runs": 3}, "is found"),
        ({"by": "random", "runs": 0}, "at least one"),
        ({"by": "random", "seed": -1}, "seed"),
    ],
)
def test_options_out_of_range_are_refused(options, says):
    with pytest.raises(AnalysisError, match=says):
        fs.plan(fs.parse_graph("a -> b"), **options)
    with pytest.raises(ChainError):
        fs.plan(fs.parse_graph("a -> b"), start="c")


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def walks_of(rows):
    """Return each run's events as (node, place of the event that sent it), in the order of handling."""
    runs = {}
    for row in rows:
        runs.setdefault(row["trace_id"], []).append(row)
    found = []
    for events in runs.values():
        place = {row["span_id"]: k for k, row in enumerate(events)}
        assert all(row["status"] == "ok" for row in events)
        found.append([(row["name"], place.get(row["parent_id"])) for row in events])
    return found


def breadth_first(run):
    """Return a planned run's events as the event loop handles them."""
    queue, found = [(0, None)], []
    while queue:
        k, sender = queue.pop(0)
        queue += [(c, len(found)) for c, p in enumerate(run.parents) if p == k]
        found.append((run.walk[k], sender))
    return found


@pytest.mark.parametrize("by", ["arrows", "pairs", "random"])
def test_a_run_without_behaviours_follows_its_plan(tmp_path, by):
    graph = fs.parse_graph(
        ORDERS if by != "random" else ORDERS.replace("ship -> notify, invoice", "ship/n -> notify; ship/i -> invoice")
    )
    found = fs.plan(graph, by)
    with fs.open_writer(tmp_path / "a.jsonl") as writer:
        result = fs.App(graph).run(found.injections(), writer)
    assert (result.runs, result.events, result.dropped) == (len(found.runs), found.events, {})
    assert walks_of(rows_of(tmp_path / "a.jsonl")) == [breadth_first(run) for run in found.runs]
    lines = [line.encode() for line in found.lines()]
    assert list(read_injections(lines, "plan", follow=True)) == list(found.injections())
    assert list(read_injections(lines, "plan")) == [(run.node, "", None) for run in found.runs]


def test_copies_that_have_no_part_in_a_walk_end_where_they_arrive(tmp_path):
    graph = fs.parse_graph("a -> b, c; b -> d; c -> e")
    found = fs.plan(graph, "probable", runs=1)
    with fs.open_writer(tmp_path / "a.jsonl") as writer:
        fs.App(graph).run(found.injections(), writer)
    assert [row["name"] for row in rows_of(tmp_path / "a.jsonl")] == ["a", "b", "c", found.runs[0].walk[2]]
    assert any("other copies end" in note for note in found.notes())


def test_behaviours_are_given_the_messages_only():
    graph = fs.parse_graph("a/x -> b; a/y -> c")
    app, seen = fs.App(graph), []

    @app.on("a")
    def a(state, message, ctx):
        seen.append((message.key, message.body))
        ctx.emit(key="x")

    app.run(read_injections((line.encode() for line in fs.plan(graph).lines()), "plan"))
    assert seen == [("", None)] * 2


def test_a_journal_of_a_planned_run_replays(tmp_path):
    graph = fs.parse_graph(ORDERS)
    app = fs.App(graph)
    with fs.open_writer(tmp_path / "a.parquet") as writer:
        app.run(fs.plan(graph).injections(), writer, journal=tmp_path / "a.journal")
    assert not app.replay(tmp_path / "a.journal", against=tmp_path / "a.parquet").differences


def test_a_body_that_only_looks_like_a_walk_is_forwarded():
    graph = fs.parse_graph("a -> b")
    app, seen = fs.App(graph), []
    app.on("b")(lambda state, message, ctx: seen.append(message.body))
    bodies = [{"walk": ["x"]}, {"walk": 1, "keys": 2, "at": None}, ["walk"], None]
    app.run([("a", "", body) for body in bodies])
    assert seen == bodies


@pytest.mark.parametrize(
    "line",
    [
        {"node": "a", "walk": []},
        {"node": "a", "walk": ["b"], "keys": [None]},
        {"node": "a", "walk": ["a", 1], "keys": ["", None]},
        {"node": "a", "walk": ["a", "b"], "keys": [""]},
        {"node": "a", "walk": ["a", "b"], "keys": ["", 3]},
        {"node": "a", "walk": ["a", "b"], "keys": ["", None], "parents": [None, 1]},
        {"node": "a", "walk": ["a", "b"], "keys": ["", None], "parents": [None, True]},
        {"node": "a", "walk": ["a", "b"], "keys": ["", None], "parents": [0, 0]},
        {"node": "a", "walk": ["a"], "keys": [None], "more": 1},
        {"node": "a", "keys": [None]},
    ],
)
def test_lines_whose_walk_is_none_are_refused(line):
    for follow in (False, True):
        with pytest.raises(RunError, match="plan:1: "):
            list(read_injections([json.dumps(line).encode()], "plan", follow=follow))


def test_a_long_way_is_planned_and_followed():
    n = 3000
    graph = fs.Graph.of([fs.Arrow(f"n{k}", "#", f"n{k + 1}") for k in range(n)])
    found = fs.plan(graph)
    assert [len(run.walk) for run in found.runs] == [n + 1]
    assert fs.App(graph).run(found.injections()).events == n + 1
    loops = fs.Graph.of(
        [
            arrow
            for k in range(n)
            for arrow in (fs.Arrow(f"n{k}", "on", f"n{k + 1}"), fs.Arrow(f"n{k}", "again", f"n{k}"))
        ]
    )
    found = fs.plan(loops)
    assert (len(found.runs), found.events, found.least_events) == (1, 2 * n + 1, 2 * n + 1)


def test_the_command_writes_what_run_replays(tmp_path, monkeypatch, run_flowstat):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.graph").write_text(ORDERS)
    code, out, _ = run_flowstat("plan", "app.graph", "-o", "plan.jsonl")
    assert code == 0
    assert "4 runs of 25 events: 14 of 14 arrows." in out
    found = fs.plan(fs.parse_graph(ORDERS))
    assert (tmp_path / "plan.jsonl").read_text() == "".join(found.lines())
    assert run_flowstat("run", "app.graph", "--input", "plan.jsonl", "-o", "a.jsonl")[0] == 0
    assert walks_of(rows_of(tmp_path / "a.jsonl")) == [breadth_first(run) for run in found.runs]
    (tmp_path / "app.py").write_text("def validate(state, message, ctx):\n    ctx.emit(key='ok')\n")
    assert run_flowstat("run", "app.graph", "--input", "plan.jsonl", "--follow", "-o", "b.jsonl")[0] == 0
    assert (tmp_path / "a.jsonl").read_text() == (tmp_path / "b.jsonl").read_text()
    assert run_flowstat("run", "app.graph", "--input", "plan.jsonl", "-o", "c.jsonl")[0] == 0
    assert (tmp_path / "a.jsonl").read_text() != (tmp_path / "c.jsonl").read_text()
    code, out, err = run_flowstat("plan", "app.graph", "--random", 3, "--seed", 4, "-o", "-")
    assert out == "".join(fs.plan(fs.parse_graph(ORDERS), "random", runs=3, seed=4).lines())
    assert "3 runs of" in err
    assert json.loads(run_flowstat("plan", "app.graph", "--cover", "pairs", "--format", "json")[1])["by"] == "pairs"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["plan", "app.graph", "--cover", "pairs", "--random", 3], "choose one"),
        (["plan", "app.graph", "-o", "app.graph"], "is read here"),
        (["plan", "app.graph", "--start", "nowhere"], "nowhere"),
        (["run", "app.graph", "--follow"], "--input"),
        (["run", "app.graph", "--follow", "--input", "p.jsonl", "--record", "both"], "the plan is the journal"),
    ],
)
def test_bad_usage_is_said(tmp_path, monkeypatch, run_flowstat, arguments, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.graph").write_text(ORDERS)
    code, out, err = run_flowstat(*arguments)
    assert (code, out) == (2, "")
    assert says in err
