"""Where traces do not keep to their graph: against plain loops over rows, and against all runs of small chains."""

import json
from collections import Counter
from math import exp, inf, log

import numpy as np
import pytest
from hypothesis import given, settings
from scipy import stats

import flowstat as fs
from flowstat.analyze.run_law import play_scores
from flowstat.errors import AnalysisError, ChainError, TraceError
from flowstat.estimate.chain import Chain, estimate
from flowstat.estimate.counting import count
from flowstat.estimate.counts import Counts
from flowstat.estimate.counts_file import write_counts
from flowstat.estimate.pattern_law import PatternLaw
from flowstat.estimate.remembering import remembering
from flowstat.explain.conform import conform
from flowstat.read.files import parse_graph
from flowstat.read.patterns import parse_pattern
from flowstat.read.traces import Traces, read_traces
from tests.oracles import chains
from tests.played import recorded, table_of, walks_of
from tests.strategies import event, forests, line, write_json_lines, write_parquet

SHOP = parse_graph(
    "order -> pay; pay/ok.# -> ship @0.8; pay/no -> declined @0.1; pay/again -> pay @0.05; pay/lost -> ship"
)


def held(path, rows, graph=SHOP, **more):
    """Hold rows against a graph, and the chain of the same rows."""
    traces = read_traces(write_parquet(path / "t.parquet", rows))
    return conform(estimate(count(traces, graph), graph), traces, **more)


def paid(run, *keys):
    """Return a run of the shop whose messages have keys."""
    nodes = {"ok": "ship", "no": "declined", "again": "pay"}
    rows = line(run, "order", "pay", *(nodes.get(key.partition(".")[0], "bank") for key in keys))
    return [row | {"key": key} for row, key in zip(rows, (None, None, *keys), strict=True)]


def test_undeclared_flows_are_told_with_examples(tmp_path):
    rows = [row for k in range(20) for row in paid(k, "ok.eu")]
    rows += [row for k in range(20, 25) for row in paid(k, "bank")] + paid(30, "again", "ok")
    rows += [event(40, 1, "admin", sent="order"), event(40, 2, "order", parent_id=1, parent="admin")]
    found = held(tmp_path, rows)
    flows = [(f.source, f.key, f.target, f.messages, f.share) for f in found.undeclared.flows]
    assert flows == [
        ("pay", "bank", "bank", 5, pytest.approx(5 / 27)),
        ("(start)", None, "admin", 1, pytest.approx(1 / 27)),
        ("admin", None, "order", 1, 1.0),
    ]
    assert found.undeclared.flows[0].examples == (("20", "3"), ("21", "3"), ("22", "3"))
    assert found.undeclared.rows()[0] | {"share": 0} == {
        "source": "pay", "key": "bank", "target": "bank", "messages": 5, "share": 0, "trace": "20", "span": "3"
    }  # fmt: skip
    assert found.found["undeclared"] == 3


def test_a_declared_pair_is_undeclared_for_a_key_that_no_arrow_takes(tmp_path):
    rows = [*paid(1, "ok"), *paid(2, "no")]
    for row in rows:
        row["key"] = "else" if row["key"] == "no" else row["key"]
    (flow,) = held(tmp_path, rows).undeclared.flows
    assert (flow.source, flow.key, flow.target) == ("pay", "else", "declined")


def test_a_message_of_which_only_its_sender_tells_has_the_sender_as_example(tmp_path):
    rows = [event(1, 7, "order", sent="bank*2"), event(1, 8, "bank", parent_id=7, parent="order")]
    rows += [event(2, 9, "order", sent="void")]
    flows = [(f.target, f.messages, f.examples[0]) for f in held(tmp_path, rows).undeclared.flows]
    assert flows == [("bank", 2, ("1", "8")), ("void", 1, ("2", "9"))]


def test_unseen_arrows_have_the_exact_bound(tmp_path):
    rows = [row for k in range(90) for row in paid(k, "ok")]
    found = held(tmp_path, rows, level=0.9)
    never = {(a.source, a.key, a.target): a for a in found.unseen.arrows}
    assert set(never) == {("pay", "no", "declined"), ("pay", "again", "pay"), ("pay", "lost", "ship")}
    for arrow in never.values():
        assert arrow.events == 90
        assert arrow.share_below == pytest.approx(stats.beta.ppf(0.9, 1, 90), rel=1e-12)
        assert (1 - arrow.share_below) ** 90 == pytest.approx(0.1)
    assert never["pay", "no", "declined"].against
    assert not never["pay", "lost", "ship"].against
    assert found.unseen.untold == 0


def test_the_bound_holds_as_often_as_stated():
    random = np.random.default_rng(2)
    for share, n in ((0.02, 100), (0.1, 30)):
        unseen_ = random.binomial(n, share, 20_000) == 0
        bound = -np.expm1(np.log(0.05) / n)
        # It is wrong where the arrow was not seen, and its share is larger all the same.
        assert (unseen_ & (share > bound)).mean() <= 0.05


def test_arrows_between_the_same_nodes_need_keys_to_be_told_apart(tmp_path):
    rows = [row | {"key": None} for row in paid(1, "ok")]
    found = held(tmp_path, rows)
    assert found.unseen.untold == 2
    assert "Of 2 arrows it can't be told" in str(found.unseen)
    assert ("pay", "ok.#", "ship") not in {(a.source, a.key, a.target) for a in found.unseen.arrows}
    nothing = conform(estimate(Counts(), SHOP), Traces(()))
    assert {a.share_below for a in nothing.unseen.arrows} == {1.0}


def test_keys_that_match_nothing_are_told(tmp_path):
    rows = [row for k in range(5) for row in paid(k, "ok")]
    for k in range(3):
        rows.append(event(k, 9, None, parent_id=2, parent="pay", key="odd" if k else None, status="dropped"))
    found = held(tmp_path, rows)
    assert [(d.node, d.key, d.messages) for d in found.dropped.keys] == [("pay", "odd", 2), ("pay", None, 1)]
    assert found.dropped.keys[0].examples == (("1", "9"), ("2", "9"))
    assert found.undeclared.flows == ()


@settings(max_examples=6)
@given(forests())
def test_forests_are_held_against_plain_loops(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("conform")
    graph = parse_graph("a -> b; b -> a; a -> a; c -> d")
    if not rows:
        return
    ways = [write_parquet(path / "t.parquet", rows), write_json_lines(path / "t.jsonl", rows)]
    found = []
    for way in ways:
        traces = read_traces(way)
        found.append(conform(estimate(count(traces, graph), graph), traces))
    assert found[0].undeclared == found[1].undeclared
    assert found[0].unseen == found[1].unseen
    assert found[0].dropped == found[1].dropped
    counted = count(read_traces(ways[0]), graph)
    told = Counter()
    for flow in found[0].undeclared.flows:
        assert (flow.source, flow.target) not in {(a.source, a.target) for a in graph.arrows}
        if flow.source != "(start)":
            told[flow.source, flow.target] += flow.messages
    assert all(told[pair] >= n for pair, n in counted.undeclared.items())
    assert sum(d.messages for d in found[0].dropped.keys) >= sum(counted.dropped.values())
    handled = {row["trace_id"] for row in rows if row["status"] in ("ok", "error")}
    assert found[0].runs.judged + found[0].runs.untold == len(handled)
    json.dumps(found[0].to_dict(), allow_nan=False)


@settings(max_examples=40)
@given(chains())
def test_played_runs_are_as_likely_as_all_runs_say(chain):
    law = PatternLaw(chain)
    for name in chain.names:
        row = law.patterns[name]
        assert sum(row.values()) == pytest.approx(1)
        marginal = Counter()
        for sent, p in row.items():
            for target, _ in parse_pattern(sent):
                marginal[target] += p
        P = chain.P.toarray()[chain.index[name]]
        assert {chain.names[j]: p for j, p in enumerate(P) if p} == pytest.approx(dict(marginal))
    # All runs down to a small chance, by the chance that they have.
    work = [((n,), float(p)) for n, p in zip(chain.names, chain.start, strict=True) if p > 0]
    ended = []
    while work:
        walk, p = work.pop()
        row = chain.P.toarray()[chain.index[walk[-1]]]
        stop = float(chain.stop[chain.index[walk[-1]]])
        if stop:
            ended.append(p * stop)
        work += [((*walk, chain.names[j]), p * q) for j, q in enumerate(row) if p * q > 1e-3 and len(walk) < 12]
    played = play_scores(law, 4000, 1, most_events=10**6, longest=1000)
    best = sorted(ended)[-6:]
    for chance in best:
        if chance < 0.01:
            continue
        likely = sum(p for p in ended if p > chance * (1 + 1e-6))
        value = played.p_values(np.array([log(chance)]))[0]
        assert value == pytest.approx(1 - likely, abs=5 * (max(likely * (1 - likely), 1e-4) / 4000) ** 0.5 + 2e-3)


def test_a_run_is_as_likely_as_its_events(tmp_path):
    rows = [*line(1, "a", "b"), *line(2, "a", "b"), *line(3, "a")]
    rows += [event(4, 1, "a", sent="b*2"), *(event(4, k, "b", parent_id=1, parent="a", sent="") for k in (2, 3))]
    graph = parse_graph("a -> b")
    found = {r.run: r for r in held(tmp_path, rows, graph).runs.runs}
    # a: 4 events and 1 of the prior, which goes to b.
    assert exp(found["1"].log_likelihood) == pytest.approx(3 / 5)
    assert exp(found["3"].log_likelihood) == pytest.approx(1 / 5)
    assert exp(found["4"].log_likelihood) == pytest.approx(1 / 5)
    assert (found["4"].node, found["4"].sent, found["4"].span) == ("a", "b*2", "1")
    assert found["4"].chance == pytest.approx(0.2)
    assert found["3"].p_value > 0.2
    assert found["1"].p_value == 1


def test_planted_odd_runs_are_found_worst_first(tmp_path):
    chain = estimate(Counts(), parse_graph("order -> pay; pay -> pay @0.1; pay -> ship @0.9"))
    walks = walks_of(chain, 2000, 1)
    walks[700] = ["order", *["pay"] * 40, "ship"]
    walks[900] = ["order", *["pay"] * 30, "ship"]
    traces = recorded(tmp_path / "t.parquet", table_of(walks))
    found = conform(estimate(count(traces, SHOP), SHOP), traces, top=5)
    odd = [r for r in found.runs.runs if r.unlikely]
    assert [r.run for r in odd] == ["701", "901"]
    assert odd[0].log_likelihood < odd[1].log_likelihood
    assert found.runs.unlikely == 2
    assert (odd[0].events, odd[0].node, odd[0].sent) == (42, "pay", "pay")


def test_false_alarms_about_runs_are_no_more_frequent_than_stated(tmp_path):
    graph = parse_graph("a -> c @0.5; a -> b @0.5; b -> c @0.5; b -> a @0.3; c -> a @0.3; c -> b @0.2; c -> d @0.3")
    truth = estimate(Counts(), graph)
    alarms = 0
    for seed in range(30):
        traces = recorded(tmp_path / f"{seed}.parquet", table_of(walks_of(truth, 100, seed)))
        alarms += conform(estimate(count(traces, graph), graph), traces, rate=0.2, seed=seed).runs.unlikely > 0
    assert alarms <= 30 * 0.2 + 3 * (30 * 0.2 * 0.8) ** 0.5


def test_against_a_baseline_what_is_new_is_odd_only_if_the_baseline_knew_all(tmp_path):
    graph = parse_graph("a -> b @0.5; a -> c @0.5")
    walks = [("a", "bc"[k % 2]) for k in range(4000)]
    chain = estimate(count(recorded(tmp_path / "base.parquet", table_of(walks)), graph), graph)
    rows = [row for k in range(20) for row in line(k + 10, *walks[k])]
    odd = [event(9, 1, "a", sent="b c"), *(event(9, k, n, parent_id=1, parent="a") for k, n in ((2, "b"), (3, "c")))]
    traces = read_traces(write_parquet(tmp_path / "t.parquet", [*rows, *odd]))
    found = conform(chain, traces).runs
    assert (found.new, found.runs[0].run, found.runs[0].log_likelihood, found.runs[0].chance) == (1, "9", None, 0)
    assert found.runs[0].unlikely
    few = estimate(count(recorded(tmp_path / "few.parquet", table_of(walks[:10])), graph), graph)
    assert not conform(few, traces).runs.unlikely
    stated = conform(estimate(Counts(), graph), traces).runs.runs[0]
    assert (stated.p_value, stated.unlikely) == (0, True)


def test_runs_that_multiply_or_never_end_are_cut_off(tmp_path):
    rows = [event(1, 1, "a", sent="a*3"), *(event(1, k, "a", parent_id=1, parent="a", sent="") for k in (2, 3, 4))]
    graph = parse_graph("a -> a")
    found = held(tmp_path, [*rows, *(row | {"trace_id": 2} for row in rows)], graph, seed=1).runs
    assert found.cut > 0
    assert all(0 < r.p_value <= 1 for r in found.runs)
    trap = Chain.from_matrix([[1.0]], ["a"])
    played = play_scores(PatternLaw(trap), 10, most_events=10**6, longest=50)
    assert (played.cut, set(played.scores.tolist())) == (10, {-inf})


def test_runs_without_one_start_are_not_judged(tmp_path):
    rows = [*line(1, "order", "pay"), event(2, 5, "pay", parent_id=4, parent="order"), *line(3, "order", "pay")]
    rows += [event(3, 9, "order")]
    found = held(tmp_path, rows).runs
    assert (found.judged, found.untold) == (1, 2)
    assert "Not judged: 2 runs" in str(found)


def test_a_chain_that_remembers_judges_by_what_was_before(tmp_path):
    walks = [("a", "c", "d") if k % 2 else ("b", "c", "e") for k in range(400)] + [("a", "c", "e")]
    graph = parse_graph("a -> c; b -> c; c -> d; c -> e")
    traces = recorded(tmp_path / "t.parquet", table_of(walks))
    one, two = estimate(count(traces, graph), graph), remembering(traces, graph)
    assert two.split == ("c",)
    assert not conform(one, traces).runs.unlikely
    found = conform(two, traces)
    assert (found.runs.runs[0].run, found.runs.runs[0].p_value < 0.02) == ("401", True)
    assert found.undeclared.flows == ()
    assert found.unseen.of == 4


def test_refusals(tmp_path):
    traces = read_traces(write_parquet(tmp_path / "t.parquet", line(1, "a", "b")))
    with pytest.raises(ChainError, match="no graph to hold traces against"):
        conform(estimate(count(traces)), traces)
    chain = estimate(count(traces), SHOP)
    with pytest.raises(AnalysisError, match="a level is between"):
        conform(chain, traces, level=1)
    with pytest.raises(AnalysisError, match="at least one run"):
        conform(chain, traces, top=0)
    with pytest.raises(ChainError, match="a rate of false alarms"):
        conform(chain, traces, rate=0)
    write_counts(Counts({("a", ""): 1}, {"a": 1}), tmp_path / "c.json")
    with pytest.raises(TraceError, match="holds counts"):
        conform(chain, read_traces(tmp_path / "c.json"))


class TestCommand:
    @pytest.fixture
    def cli(self, tmp_path, monkeypatch, run_flowstat):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "app.graph").write_text(fs.format_graph(SHOP))
        rows = [row for k in range(50) for row in paid(k, "ok.eu" if k % 9 else "no")]
        write_parquet(tmp_path / "good.parquet", rows)
        write_parquet(tmp_path / "odd.parquet", [*rows, *paid(99, "bank")])
        return run_flowstat

    def test_it_is_the_twin_of_the_library(self, cli):
        code, out, _ = cli("conform", "app.graph", "-t", "odd.parquet", "--format", "json")
        assert code == 0
        found = json.loads(out)
        graph, traces = fs.read_graph("app.graph"), fs.read_traces("odd.parquet")
        same = fs.conform(estimate(fs.count(traces, graph), graph), traces)
        for name in ("undeclared", "unseen", "dropped", "runs"):
            assert found[name]["rows"] == json.loads(json.dumps(getattr(same, name).rows()))
        assert found["undeclared"]["rows"][0]["trace"] == "99"

    def test_it_can_fail_a_build(self, cli):
        assert cli("conform", "app.graph", "-t", "good.parquet", "--fail-on", "undeclared")[0] == 0
        code, out, _ = cli("conform", "app.graph", "-t", "odd.parquet", "--fail-on", "undeclared", "--fail-on", "runs")
        assert code == 1
        assert "1 message went along 1 undeclared flow" in out

    def test_a_baseline_is_what_runs_are_held_against(self, cli):
        code, out, err = cli(
            "conform", "app.graph", "-t", "odd.parquet", "--baseline", "good.parquet", "--show", "runs"
        )
        assert code == 0
        assert "good.parquet" in err
        assert "knows nothing of (chance 0)" in out

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("app.graph",), "give them with -t"),
            (("app.graph", "-t", "good.parquet", "--start", "pay"), "leave out --start"),
            (("app.graph", "-t", "-", "--baseline", "-"), "read once only"),
            (("app.graph", "-t", "good.parquet", "--format", "csv"), "add --show"),
        ],
    )
    def test_refusals(self, cli, arguments, words):
        code, out, err = cli("conform", *arguments)
        assert (code, out) == (2, "")
        assert words in err


def test_patterns_of_more_messages_than_there_is_room_for_are_no_trouble(tmp_path):
    rows = [event(1, 1, "a", sent="b*100000000000000000"), event(1, 2, "b", parent_id=1, parent="a")]
    graph = parse_graph("a -> b")
    traces = read_traces(write_parquet(tmp_path / "t.parquet", rows))
    found = conform(estimate(count(traces, graph), graph), traces)
    assert found.runs.cut > 0
    assert found.runs.runs[0].p_value == 1
    assert "b (after a)" in remembering(traces, graph, nodes=["b"]).names
