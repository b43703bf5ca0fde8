"""The programs in data/: their traces can be made again, and say what a plain script finds in them."""

import json
import shlex
import subprocess
import sys
from collections import Counter
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev

import pyarrow.parquet as pq
import pytest

import flowstat as fs
from flowstat.cli import main

ROOT = Path(__file__).parents[1]
DATA = ROOT / "data"
TRACES = {"orders": "orders", "jobs": "jobs", "mesh": "mesh", "mesh_storm": "mesh"}
"""Trace -> its graph."""

LINES = (DATA / "README.md").read_text(encoding="utf-8").splitlines()

COMMANDS = {
    Path(words[words.index("-o") + 1]).stem: words[1:]
    for line in LINES
    if (words := shlex.split(line) if line.startswith("flowstat run ") else [])
}
"""Trace -> the arguments that recorded it, as data/README.md says them."""

CLAIMS = [shlex.split(line)[1:] for line in LINES if line.startswith("   flowstat ")]
"""The arguments of the commands that show the three claims."""


def rows_of(name):
    return pq.read_table(DATA / f"{name}.parquet").to_pylist()


def chain_of(name, prior=1.0):
    graph = fs.read_graph(DATA / f"{TRACES[name]}.graph")
    return fs.estimate(fs.count(fs.read_traces(DATA / f"{name}.parquet"), graph), graph, prior)


@pytest.fixture
def cli(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["flowstat", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    return run


class Script:
    """What one can count in a trace with nothing but its rows; of flowstat it uses nothing.

    Transitions are taken from `parent` and `name`, not from the send patterns that flowstat counts.
    """

    def __init__(self, rows):
        handled = [row for row in rows if row["status"] in ("ok", "error")]
        senders = {(row["trace_id"], row["parent_id"]) for row in rows}
        self.rows = rows
        self.runs = len({row["trace_id"] for row in rows})
        self.events = Counter(row["name"] for row in handled)
        self.starts = Counter(row["name"] for row in handled if row["parent_id"] is None)
        self.pending = Counter(row["name"] for row in rows if row["status"] == "pending")
        self.stops = Counter(r["name"] for r in handled if (r["trace_id"], r["span_id"]) not in senders)
        self.messages = Counter((row["parent"], row["name"]) for row in rows if row["parent_id"] is not None)

    def rounds(self, source, target):
        """Return how often each run that does so at all goes from one node to the other."""
        per_run = Counter(r["trace_id"] for r in self.rows if (r["parent"], r["name"]) == (source, target))
        return list(per_run.values())

    def exits(self, nodes):
        """Return where messages leave a set of nodes to, and the share of each way."""
        left = Counter(
            {(s, t): n for (s, t), n in self.messages.items() if s in nodes and t not in nodes}
            | {(s, "(end)"): n for s, n in self.stops.items() if s in nodes}
        )
        return {way: n / left.total() for way, n in left.items()}


@pytest.fixture(scope="module")
def orders():
    return Script(rows_of("orders"))


@pytest.mark.parametrize("name", TRACES)
def test_a_trace_is_recorded_again_to_the_byte(name, cli, tmp_path):
    words = list(COMMANDS[name])
    words[words.index("-o") + 1] = tmp_path / name
    code, _, err = cli(*words)
    assert code == (name == "mesh_storm"), err
    assert ("message storm" in err) == (name == "mesh_storm")
    stored, again = (sorted(folder.iterdir()) for folder in (DATA / f"{name}.parquet", tmp_path / name))
    assert [part.name for part in stored] == [part.name for part in again]
    for old, new in zip(stored, again, strict=True):
        assert pq.read_table(old).equals(pq.read_table(new))
        # Another release of the Parquet library may store the same rows in other bytes.
        if pq.read_metadata(old).created_by == pq.read_metadata(new).created_by:
            assert old.read_bytes() == new.read_bytes()


def test_every_trace_has_its_command_and_is_small():
    assert set(COMMANDS) == set(TRACES) == {path.stem for path in DATA.glob("*.parquet")}
    for name in TRACES:
        assert sum(part.stat().st_size for part in (DATA / f"{name}.parquet").iterdir()) < 200_000


@pytest.mark.parametrize("name", sorted(set(TRACES.values())))
def test_graph_and_behaviours_belong_together(name):
    graph = fs.read_graph(DATA / f"{name}.graph")
    assert fs.parse_graph(fs.format_graph(graph)) == graph
    loaded = fs.load_behaviours(DATA / f"{name}.py", graph)
    assert not loaded.unused
    # A node that chooses between keys needs a behaviour: forwarding would send nothing.
    assert {a.source for a in graph.arrows if a.key != "#"} <= set(loaded.behaviours)


@pytest.mark.parametrize("name", TRACES)
def test_counts_equal_those_of_a_plain_script(name):
    script, counts = Script(rows_of(name)), chain_of(name).counts
    assert counts.runs == script.runs
    assert counts.starts == script.starts
    assert counts.events == script.events
    assert counts.stops == script.stops
    assert counts.messages == script.messages
    assert counts.pending == script.pending
    assert not any((counts.undeclared, counts.errors, counts.dropped, counts.problems))
    if name != "mesh_storm":  # stopped before it could use every arrow
        declared = {(a.source, a.target) for a in fs.read_graph(DATA / f"{name}.graph").arrows}
        assert set(counts.messages) == declared


def test_outcomes_and_visits_of_orders_are_those_counted(orders):
    # Without a prior the flow balances: visits are events per run, whether the program is Markov or not.
    # After the fan-out a lineage is one of two messages, so it counts half.
    chain = chain_of("orders", prior=0)
    weight = {"notify": 0.5, "invoice": 0.5, "ledger": 0.5}
    for line in fs.visits(chain).nodes:
        assert line.visits == pytest.approx(orders.events[line.node] / orders.runs * weight.get(line.node, 1))
    outcomes = {o.outcome: o.probability for o in fs.absorption(chain).outcomes}
    assert outcomes == pytest.approx({n: k / orders.runs * weight.get(n, 1) for n, k in orders.stops.items()})
    assert sum(outcomes.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("nodes", "back"),
    [
        # The bank forgets, so payment is Markov by design.
        (("payment",), ("payment", "payment")),
        # The stock remembers. But first orders run short about as often (0.22) as those back from a delivery (0.24),
        # and deliveries come as evenly as stock is used: over seeds, the share of runs that go round is scattered by a
        # quarter of the standard error of independent runs.
        (("reserve", "backorder", "restock"), ("restock", "reserve")),
    ],
)
def test_the_loops_of_orders_agree_with_the_traces(orders, nodes, back):
    (loop,) = (loop for loop in fs.loops(chain_of("orders")).loops if set(loop.nodes) == set(nodes))
    rounds = orders.rounds(*back)
    entered = len(rounds) / orders.runs
    within = 4  # standard errors
    assert loop.kind == ("self" if len(nodes) == 1 else "chain")
    assert loop.entries == nodes[:1]
    assert abs(loop.entered - entered) < within * sqrt(entered * (1 - entered) / orders.runs)
    assert abs(loop.rounds - fmean(rounds)) < within * stdev(rounds) / sqrt(len(rounds))
    # Exits only count messages: they differ by the weight of the prior.
    exits = orders.exits(nodes)
    assert {(e.source, e.target): e.probability for e in loop.exits} == pytest.approx(exits, abs=2e-3)
    (exact,) = (loop for loop in fs.loops(chain_of("orders", prior=0)).loops if set(loop.nodes) == set(nodes))
    assert {(e.source, e.target): e.probability for e in exact.exits} == pytest.approx(exits)


def test_flowstat_cycles_names_both_loops_of_orders(cli):
    ask = "cycles", "data/orders.graph", "-t", "data/orders.parquet"
    code, out, err = cli(*ask)
    assert code == 0
    assert "2,000 runs" in err
    assert "data/orders.parquet" in err
    told = {line.split(":")[0]: line for line in out.splitlines() if ": entered in" in line}
    assert set(told) == {
        "payment -> payment (self-injection, key `retry.*`)",
        "reserve -> ... -> reserve (a chain that leads back, through backorder and restock)",
    }
    payment, backorder = (told[key] for key in sorted(told))
    assert "of runs" in payment
    assert "rounds on average" in payment
    assert "leaves to ship" in payment
    assert "leaves to payment" in backorder
    found = {row["loop"]: row for row in json.loads(cli(*ask, "--show", "loops", "--format", "json")[1])["rows"]}
    want = {row["loop"]: row for row in fs.loops(chain_of("orders")).rows()}
    assert found.keys() == want.keys()
    for name, row in found.items():
        assert row["kind"] == want[name]["kind"]
        assert row["exits"] == want[name]["exits"]
        assert [row["entered"], row["rounds"]] == pytest.approx([want[name]["entered"], want[name]["rounds"]])


def test_jobs_has_three_loops_one_in_the_other_and_dead_letters():
    found = fs.loops(chain_of("jobs")).loops
    assert [(loop.depth, loop.header, loop.kind) for loop in found] == [
        (0, "queue", "chain"),
        (1, "fetch", "chain"),
        (2, "fetch", "self"),
    ]
    script = Script(rows_of("jobs"))
    outcomes = {o.outcome: o.probability for o in fs.absorption(chain_of("jobs", prior=0)).outcomes}
    # Without fan-out every run has one end: exact, although broken jobs make the program not Markov.
    assert outcomes == pytest.approx({name: n / script.runs for name, n in script.stops.items()})
    assert script.stops["dead letter"] > 0
    rounds = script.rounds("requeue", "queue")
    assert max(rounds) == 3
    # A broken job fails every time, which a chain of nodes can't know: it sees more jobs requeued, each less often.
    # What it has right is their product.
    loop = found[0]
    assert loop.entered > len(rounds) / script.runs
    assert loop.rounds < fmean(rounds)
    assert loop.entered * loop.rounds == pytest.approx(sum(rounds) / script.runs, rel=0.01)


def gain(script):
    """Return how many more calls of the database one call makes, on average, and the standard error."""
    calls = script.events["database"]
    retries = {pair: n for pair, n in script.messages.items() if "retry" in pair[0]}
    failing = sum(n for (_, target), n in script.messages.items() if "retry" in target) / calls
    each = sum(retries.values()) / sum(n for node, n in script.events.items() if "retry" in node)
    return failing * each, sqrt(failing * (1 - failing) / calls) * each


def test_mesh_is_calm_at_one_setting_and_a_storm_at_another():
    calm, storm = Script(rows_of("mesh")), Script(rows_of("mesh_storm"))
    found, error = gain(calm)
    assert abs(found - 0.6) < 4 * error
    assert found < 1
    assert not calm.pending
    found, error = gain(storm)
    assert abs(found - 1.2) < 4 * error
    assert found > 1
    assert storm.pending.total() > 300
    # Complete: every message that was sent has its row, handled or pending.
    handled = {(row["trace_id"], row["span_id"]): row for row in storm.rows if row["status"] == "ok"}
    assert len(handled) + storm.pending.total() == len(storm.rows)
    sent = Counter((row["trace_id"], row["parent_id"]) for row in storm.rows if row["parent_id"] is not None)
    assert sent.keys() <= handled.keys()
    assert {span for span, row in handled.items() if row["sent"]} == sent.keys()
    assert all(sent[span] == 4 for span, row in handled.items() if "retry" in row["name"])


def test_the_storm_is_in_the_setting_not_in_the_seed():
    graph = fs.read_graph(DATA / "mesh.graph")
    behaviours = fs.load_behaviours(DATA / "mesh.py", graph).behaviours
    for seed in range(5):
        for retries, storms in ((2, False), (4, True)):
            app = fs.App(graph, seed, behaviours)
            result = app.run([("client", "", {"retries": retries})] * 100, limits=fs.Limits(max_queue=300))
            assert (result.stopped is not None) == storms


def test_the_three_claims_are_true(cli, tmp_path):
    loop, chain, run, mirror, replay = [
        [str(tmp_path / Path(word).name) if word.startswith("out/") else word for word in words] for words in CLAIMS
    ]
    code, out, _ = cli(*loop)
    assert code == 0
    assert "payment -> payment (self-injection, key `retry.*`)" in out
    code, out, _ = cli(*chain)
    assert code == 0
    assert "reserve -> backorder -> restock" in out
    code, out, err = cli(*run)
    assert code == 0, err
    command = [sys.executable, "-m", "flowstat", *mirror]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "All states compared 4 times with the run's: they are the same." in found.stdout.replace("\n", " ")
    code, out, _ = cli(*replay)
    assert code == 0
    assert "all are the same" in out


def test_a_stopped_storm_says_why(cli):
    code, out, err = cli("storms", DATA / "mesh.graph", "-t", DATA / "mesh_storm.parquet")
    assert code == 0
    assert "messages multiply in {database, retry catalog, retry cart}, by 1.151 a generation" in " ".join(out.split())
    assert "retry catalog   #               database           3.989" in out  # the calm run sends two
    assert "Messages that were never handled (status pending): 303 in all" in err
    code, out, _ = cli("storms", DATA / "mesh.graph", "-t", DATA / "mesh.parquet")
    assert code == 0
    assert "multiplies" not in out.partition("Contributions")[0]
