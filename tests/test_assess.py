"""Whether the chain holds: quiet on data that it made itself, loud on what was planted, and right in its figures."""

import json
from collections import Counter
from math import log
from pathlib import Path

import numpy as np
import pytest

import flowstat as fs
from flowstat.analyze.absorption import absorption
from flowstat.analyze.answer_spread import spread
from flowstat.analyze.answers import Answer
from flowstat.analyze.assess import assess
from flowstat.analyze.fit import fit_of_lengths, fit_of_variants
from flowstat.errors import AnalysisError, ChainError, TraceError
from flowstat.estimate.assess import QUESTIONS, homogeneity, memory_of
from flowstat.estimate.assess_orders import orders
from flowstat.estimate.chain import Chain, estimate
from flowstat.estimate.counting import count
from flowstat.estimate.counts import Counts
from flowstat.estimate.counts_file import write_counts
from flowstat.estimate.histories import FOLDS, Event, Histories, read_histories
from flowstat.estimate.observed import ObservedVariants
from flowstat.read.files import parse_graph
from flowstat.read.traces import Traces, read_traces
from tests.played import recorded, table_of, walks_of
from tests.strategies import event, line, write_parquet

SHOP = parse_graph(
    "order -> validate; validate -> reserve @0.95; validate -> rejected @0.05; reserve -> pay @0.8;"
    "reserve -> back @0.2; back -> restock -> reserve; pay -> pay @0.1; pay -> ship @0.85; pay -> declined @0.05;"
    "ship -> done"
)
LOOPS = parse_graph(
    "a -> c @0.5; a -> b @0.5; b -> c @0.5; b -> a @0.3; c -> a @0.3; c -> b @0.2; c -> d @0.3;d -> d @0.6; d -> a @0.1"
)


def kinds_of(walks):
    """Return what `read_histories` finds in runs, with workers by chance."""
    random = np.random.default_rng(1)
    folds, groups = Counter(), Counter()
    for walk in walks:
        fold = int(random.integers(FOLDS))
        for before, node, after in zip((None, *walk[:-1]), walk, (*walk[1:], ""), strict=True):
            folds[Event(before, node, after, before is None), fold] += 1
            groups[f"w{random.integers(3)}", node, after] += 1
    events = sorted({e for e, _ in folds}, key=str)
    table = np.array([[folds[e, fold] for fold in range(FOLDS)] for e in events]).reshape(-1, FOLDS)
    return Histories(tuple(events), table, {}, dict(groups), {}, ())


@pytest.mark.parametrize(("graph", "runs", "sets"), [(SHOP, 50, 100), (LOOPS, 30, 100), (LOOPS, 400, 50)])
def test_false_alarms_are_no_more_frequent_than_stated(graph, runs, sets):
    chain = estimate(Counts(), graph)
    rate, alarms = 0.3, 0
    for seed in range(sets):
        histories = kinds_of(walks_of(chain, runs, seed))
        alarms += bool(memory_of(histories, rate, seed).nodes)
        alarms += any(f.raised for f in homogeneity(histories, rate, seed).findings)
    # Two of six questions are asked.
    expected = sets * rate * 2 / len(QUESTIONS)
    assert alarms <= expected + 3 * expected**0.5


def test_all_of_it_is_quiet_on_its_own_data(tmp_path):
    chain = estimate(Counts(), LOOPS)
    alarms = 0
    for seed in range(8):
        random = np.random.default_rng(seed)
        walks = walks_of(chain, 200, seed)
        halves = [table_of(walks[:100], random, 3), table_of(walks[100:], random, 3, 101)]
        files = [recorded(tmp_path / f"{seed}{k}.parquet", half).files[0] for k, half in enumerate(halves)]
        found = assess(Traces(tuple(files)), LOOPS, seed=seed)
        assert [v.tested > 0 for v in found.verdicts] == [True] * len(QUESTIONS)
        alarms += found.raised
    assert alarms <= 1


def remembering_walks(runs, seed):
    """Play runs in which pay fails far more often after a retry."""
    random = np.random.default_rng(seed)
    walks = []
    for _ in range(runs):
        walk = ["order", "pay"]
        while random.random() < (0.5 if walk[-2] == "retry" else 0.2):
            walk += ["retry", "pay"]
        walks.append([*walk, "ship"] if random.random() < 0.9 else walk)
    return walks


def test_planted_memory_is_found_named_and_mended(tmp_path):
    graph = parse_graph("order -> pay; pay -> ship; pay -> retry -> pay")
    found = assess(recorded(tmp_path / "t.parquet", table_of(remembering_walks(600, 2))), graph)
    assert found.memory.nodes == ("pay",)
    (finding,) = [f for f in found.memory.findings if f.raised]
    assert finding.group in ("order", "retry")
    assert finding.adjusted < 1e-6
    assert found.verdicts[0].verdict == "history matters at pay"
    assert found.answers.nodes == ("pay",)
    answers = {a.answer: a for a in found.answers.answers}
    for answer in answers.values():
        assert answer.low < answer.order_1 < answer.high
        assert answer.split_low < answer.split < answer.split_high
    # By the balance of flows, what runs bring on average is the same: it is whole runs that differ.
    assert answers["events"].order_1 == pytest.approx(answers["events"].observed, rel=2e-3)
    assert found.variants.p_value < 1e-3
    best = min(found.orders.orders, key=lambda o: o.bic)
    assert best.order == "1, split"
    assert max(found.orders.orders, key=lambda o: o.held_out).order in ("1, split", "2")
    assert best.gain > 2.5 * best.gain_standard_error


def test_memory_in_one_node_of_forty_is_found(tmp_path):
    random = np.random.default_rng(4)
    names = [f"n{k}" for k in range(40)]
    walks = []
    for _ in range(1500):
        walk = [names[0]]
        while random.random() < 0.9:
            k = int(walk[-1][1:])
            odd = k == 7 and len(walk) > 1 and int(walk[-2][1:]) % 2
            step = int(random.choice([1, 3, 6], p=[0.7, 0.2, 0.1] if odd else [1 / 3] * 3))
            walk.append(names[(k + step) % 40])
        walks.append(walk)
    found = memory_of(kinds_of(walks))
    assert found.nodes == ("n7",)


@pytest.mark.parametrize("question", ["time", "workers", "files"])
def test_a_planted_change_is_found_where_it_is(tmp_path, question):
    random = np.random.default_rng(8)
    other = parse_graph("a -> b @0.9; b -> c @0.4; c -> d")
    graph = parse_graph("a -> b @0.9; b -> c @0.8; c -> d")
    walks = [walks_of(estimate(Counts(), g), 300, k) for k, g in enumerate((graph, other))]
    if question == "files":
        parts = [recorded(tmp_path / f"{k}.parquet", table_of(some)) for k, some in enumerate(walks)]
        traces = Traces(parts[0].files + parts[1].files)
    elif question == "time":
        traces = recorded(tmp_path / "t.parquet", table_of([*walks[0], *walks[1]], random))
    else:
        rows = [
            row | {"worker": f"w{k}"}
            for k, some in enumerate(walks)
            for run, walk in enumerate(some)
            for row in line(run + 1000 * k, *walk)
        ]
        traces = read_traces(write_parquet(tmp_path / "t.parquet", rows))
    found = assess(traces, graph)
    raised = {(f.question, f.node) for f in found.homogeneity.findings if f.raised}
    assert raised == {(question, "b")}
    assert {v.question: v.verdict for v in found.verdicts}[question] == "it changes at b"
    if question == "time":
        assert "of 8, from 2001-09-09T" in next(f.group for f in found.homogeneity.findings if f.raised)


def test_a_window_that_cuts_runs_off_is_told_of(tmp_path):
    rows = []
    for k in range(400):
        late = k > 370
        rows.append(event(k, 1, "a", sent="" if late else "b", started_at=10**9 * k))
        rows += [] if late else [event(k, 2, "b", parent_id=1, parent="a", started_at=10**9 * k + 1)]
    found = homogeneity(read_histories(read_traces(write_parquet(tmp_path / "t.parquet", rows))))
    assert "See --cut." in str(found)
    assert found.findings[0].group.startswith("8 of 8, from 1970-01-01T00:05:")


def test_what_can_not_be_known_is_said(tmp_path):
    found = assess(recorded(tmp_path / "t.parquet", table_of(walks_of(estimate(Counts(), SHOP), 50, 1))), SHOP)
    said = {v.question: v.verdict for v in found.verdicts}
    assert said["time"] == "not known, the traces have no times"
    assert said["workers"] == "not known, the traces do not say which worker handled what"
    assert said["files"].startswith("not known, there is one trace only")
    json.dumps(found.to_dict(), allow_nan=False)
    assert "If it holds" in str(found)


def test_orders_are_those_of_plain_sums():
    walks = remembering_walks(200, 5)
    histories = kinds_of(walks)
    found = {o.order: o for o in orders(histories, ["pay"]).orders}
    events = [
        (before, node, after)
        for walk in walks
        for before, node, after in zip((None, *walk[:-1]), walk, (*walk[1:], ""), strict=True)
    ]
    keys = {
        "0": lambda e: (),
        "1": lambda e: e[1:2],
        "1, split": lambda e: e[:2] if e[1] == "pay" else e[1:2],
        "2": lambda e: e[:2],
    }
    sends = {node: {e[2] for e in events if e[1] == node} for _, node, _ in events}
    for order, key in keys.items():
        table, sums = Counter((key(e), e[2]) for e in events), Counter(map(key, events))
        likelihood = sum(n * log(n / sums[given]) for (given, _), n in table.items())
        assert found[order].log_likelihood == pytest.approx(likelihood, rel=1e-12)
        free = len({e[2] for e in events}) - 1 if order == "0" else sum(len(sends[given[-1]]) - 1 for given in sums)
        assert found[order].parameters == free
        assert found[order].aic == pytest.approx(2 * free - 2 * likelihood)
        assert found[order].bic == pytest.approx(log(len(events)) * free - 2 * likelihood)
    assert found["1"].gain == 0


def test_held_out_runs_are_not_learnt_from():
    histories = kinds_of(remembering_walks(60, 6))
    found = {o.order: o for o in orders(histories).orders}
    total = 0.0
    rows = list(zip(histories.events, histories.folds, strict=True))
    for event_, numbers in rows:
        same = [(e, n) for e, n in rows if e.node == event_.node]
        sends = len({e.sent for e, _ in same})
        for fold, many in enumerate(numbers.tolist()):
            learnt = {
                sent: sum(n.sum() - n[fold] for e, n in same if e.sent == sent) for sent in {e.sent for e, _ in same}
            }
            total += many * log((learnt[event_.sent] + 1 / sends) / (sum(learnt.values()) + 1))
    assert found["1"].held_out == pytest.approx(total / histories.folds.sum(), rel=1e-12)


def test_intervals_of_answers_hold_them_as_often_as_stated():
    truth = estimate(Counts(), LOOPS)
    exact = absorption(truth)
    ends = {o.outcome: o.probability for o in exact.outcomes}
    inside = Counter()
    for seed in range(100):
        counts = kinds_of(walks_of(truth, 300, seed)).counts()
        chain = estimate(counts, prior=0.0)
        events = spread(chain, [Answer("events")], chain.start)
        chance = spread(chain, [Answer("chance", ("c",))], chain.start)
        inside["events"] += events.low <= exact.events <= events.high
        inside["chance"] += chance.low <= ends["c"] <= chance.high
    assert all(89 <= n <= 100 for n in inside.values()), inside


def test_an_interval_with_fan_out_counts_whole_events():
    # Half of the events send both ways: then each lineage is a coin that no event ever shows.
    counts = Counts({("a", "b c"): 100, ("b", ""): 100, ("c", ""): 100}, {"a": 100})
    chain = estimate(counts, prior=0.0)
    found = spread(chain, [Answer("chance", ("b",))], chain.start)
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)


def test_what_is_not_the_chains_law_of_runs_is_seen():
    flip = Chain.from_matrix([[0.5]], ["flip"], "flip", stop=[0.5])
    fair = ObservedVariants({("flip",) * k: 2.0 ** (10 - k) for k in range(1, 10)})
    steady = ObservedVariants({("flip",) * 2: 1000.0})
    assert fit_of_lengths(flip, fair).p_value > 0.99
    assert fit_of_variants(flip, fair, 5).p_value > 0.99
    assert fit_of_lengths(flip, steady).p_value < 1e-100
    assert fit_of_variants(flip, steady, 5).p_value < 1e-100
    few = fit_of_lengths(flip, ObservedVariants({("flip",): 3.0}))
    assert few.p_value is None
    assert few.reason == "3 runs are too few, or too alike"
    open_ = fit_of_lengths(flip, ObservedVariants({("flip",): 300.0}, unfinished=1.0))
    assert "the end of 1 run was not recorded" in open_.reason
    assert fit_of_lengths(flip, ObservedVariants({})).reason == "there is no complete run"


def test_with_fan_out_whole_runs_are_compared(tmp_path):
    rows = []
    random = np.random.default_rng(3)
    for k in range(160):
        rows.append(event(k, 1, "a", sent="b*2"))
        lucky = bool(random.integers(2))
        for span in (2, 3):
            # Both messages fare alike: no event shows that by itself.
            rows.append(event(k, span, "b", parent_id=1, parent="a", sent="c" if lucky else ""))
            if lucky:
                rows.append(event(k, span + 2, "c", parent_id=span, parent="b"))
    found = assess(read_traces(write_parquet(tmp_path / "t.parquet", rows)), parse_graph("a -> b -> c"))
    assert not found.memory.nodes
    assert found.lengths.whole
    assert found.lengths.p_value < 1e-10
    assert found.variants.p_value < 1e-10
    lines = {line.what: line.runs for line in found.lengths.lines}
    assert lines == {
        "1 to 3": 160 - sum(r["name"] == "c" for r in rows) / 2,
        "4": 0,
        "5 or more": 160 - lines["1 to 3"],
    }


def test_traps_and_few_data_are_no_error(tmp_path):
    graph = parse_graph("a -> b -> b; a -> c")
    rows = [*line(1, "a", "c"), event(2, 1, "a", sent="b"), event(2, 2, "b", parent_id=1, parent="a", sent="b")]
    rows += [event(2, 3, "b", parent_id=2, parent="b", status="pending")]
    found = assess(read_traces(write_parquet(tmp_path / "t.parquet", rows)), graph)
    assert {a.answer for a in found.answers.answers} == {"events", "trapped in b", "stops at c"}
    json.dumps(found.to_dict(), allow_nan=False)
    for text in map(str, (found, found.memory, found.homogeneity, found.orders, found.variants, found.lengths)):
        assert "nan" not in text.lower()


def test_refusals(tmp_path):
    traces = recorded(tmp_path / "t.parquet", table_of([["a", "b"]]))
    with pytest.raises(ChainError, match="a rate of false alarms"):
        assess(traces, rate=1)
    with pytest.raises(AnalysisError, match="a level is between"):
        assess(traces, level=0)
    with pytest.raises(AnalysisError, match="a whole number of at least 1"):
        assess(traces, top=0)
    with pytest.raises(ChainError, match="at least one node"):
        assess(Traces(()))
    write_counts(Counts({("a", ""): 1}, {"a": 1}), tmp_path / "c.json")
    with pytest.raises(TraceError, match="holds counts"):
        assess(read_traces(tmp_path / "c.json"))


class TestCommand:
    @pytest.fixture
    def cli(self, tmp_path, monkeypatch, run_flowstat):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "app.graph").write_text("order -> pay; pay -> ship; pay -> retry -> pay")
        recorded(tmp_path / "app.parquet", table_of(remembering_walks(300, 1)))
        return run_flowstat

    def test_assess_is_the_twin_of_the_library(self, cli):
        code, out, err = cli("assess", "app.graph", "-t", "app.parquet", "--format", "json")
        assert code == 0
        assert "of 300 runs" in err
        found = json.loads(out)
        graph, traces = fs.read_graph("app.graph"), fs.read_traces("app.parquet")
        same = fs.assess(traces, graph, counts=count(traces, graph))
        assert found["verdicts"]["rows"] == json.loads(json.dumps(same.rows()))
        assert found["memory"]["rows"][0]["node"] == "pay"

    def test_memory_auto_splits_in_every_command(self, cli):
        for command in (
            ("cycles",), ("absorbing",), ("flows",), ("flows", "--variants"), ("storms",), ("matrix",), ("classes",),
            ("stationary", "--restarted"), ("spectrum",), ("sensitivity",), ("sample", "--runs", 100), ("draw",),
        ):  # fmt: skip
            name, *rest = command
            code, out, err = cli(name, "app.graph", "-t", "app.parquet", "--memory", "auto", *rest)
            assert code == 0, err
            assert "split by the step before, pay is pay (after order), pay (after retry)" in err
            assert "pay (after" in out or name in ("sample", "storms", "sensitivity"), command
        assert cli("report", "app.graph", "-t", "app.parquet", "--memory", "auto")[0] == 0
        one = cli("hitting", "app.graph", "pay", "-t", "app.parquet", "--memory", "auto", "--memory", "200MB")
        assert "A run comes to pay (after order), pay (after retry) with probability 1" in one[1]
        reach = cli("reach", "app.graph", "pay", "-t", "app.parquet", "--memory", "auto", "--format", "json")[1]
        assert json.loads(reach)["states"][0]["probability"] == pytest.approx(1, abs=0.01)

    def test_a_trace_on_standard_input_is_read_again(self, cli, tmp_path):
        cli("convert", "-t", "app.parquet", "-o", "app.jsonl")
        text = (tmp_path / "app.jsonl").read_bytes()
        from_file = cli("assess", "app.graph", "-t", "app.jsonl", "--show", "memory")[1]
        assert cli("assess", "app.graph", "-t", "-", "--show", "memory", stdin=text)[1] == from_file

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("assess", "app.graph"), "give them with -t"),
            (("assess", "app.graph", "-t", "app.parquet", "--start", "pay"), "leave out --start"),
            (("assess", "app.graph", "-t", "app.parquet", "--memory", "auto"), "leave out"),
            (("absorbing", "app.graph", "--memory", "auto"), "need traces"),
            (("count", "app.parquet", "--memory", "auto"), "this makes none"),
            (("absorbing", "app.graph", "-t", "app.parquet", "--memory", "1GB", "--memory", "2GB"), "is one size"),
            (("absorbing", "app.graph", "-t", "app.parquet", "--memory", "much"), "not a size"),
            (("absorbing", "app.graph", "-t", "app.parquet", "--memory", "auto", "--start", "pay"), "no run begins"),
        ],
    )  # fmt: skip
    def test_refusals(self, cli, arguments, words):
        code, out, err = cli(*arguments)
        assert (code, out) == (2, "")
        assert words in err

    def test_data_of_ours(self, run_flowstat):
        root = Path(__file__).parents[1] / "data"
        jobs = run_flowstat("assess", root / "jobs.graph", "-t", root / "jobs.parquet", "--show", "verdicts")[1]
        assert "history matters at requeue" in jobs
