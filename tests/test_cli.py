"""The command line: twins of the library, data on stdout, everything else on stderr, named exit codes."""

import io
import json

import pandas as pd
import pytest

import flowstat as fs
from flowstat.cli import flowstat

GRAPH = """
order -> validate;
validate/ok -> reserve; validate/bad -> rejected @0.05;
reserve/ok -> pay; reserve/no -> backorder @0.2; backorder -> restock -> reserve;
pay/retry -> pay @0.1; pay/ok -> ship @0.85; pay/no -> declined @0.05;
ship -> notify, invoice;
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.graph").write_text(GRAPH)
    return tmp_path


@pytest.fixture
def cli(place, run_flowstat):
    return run_flowstat


@pytest.fixture
def traced(cli):
    assert cli("simulate", "app.graph", "--runs", 500, "--seed", 3, "-o", "app.parquet")[0] == 0
    return cli


def test_cycles_names_the_loops_with_kind_entry_rounds_and_exits(traced):
    code, out, err = traced("cycles", "app.graph", "-t", "app.parquet")
    assert code == 0
    assert "pay -> pay (self-injection, key `retry`): entered in" in out
    assert "a chain that leads back, through backorder and restock" in out
    assert "leaves to pay 100%" in out
    assert "rounds on average" in out
    assert "of 500 runs, " in err


def test_a_graph_alone_says_that_it_is_alone(cli):
    code, out, err = cli("absorbing", "app.graph", "--show", "outcomes")
    assert code == 0
    assert "No traces" in err
    assert "rejected" in out


@pytest.mark.parametrize("command", ["cycles", "absorbing", "flows", "matrix"])
def test_json_is_json_and_twin_of_the_library(traced, command):
    code, out, _ = traced(command, "app.graph", "-t", "app.parquet", "--format", "json")
    assert code == 0
    data = json.loads(out)
    graph = fs.read_graph("app.graph")
    chain = fs.estimate(fs.count(fs.read_traces("app.parquet"), graph), graph)
    if command == "absorbing":
        assert data["outcomes"]["rows"] == fs.absorption(chain).rows()
    if command == "cycles":
        assert data["cycles"]["rows"] == fs.cycles(chain).rows()
        assert data["loops"]["loops"] == fs.loops(chain).to_dict()["loops"]


def test_csv_is_one_table(traced):
    code, out, _ = traced("matrix", "app.graph", "-t", "app.parquet", "--format", "csv")
    assert code == 0
    frame = pd.read_csv(io.StringIO(out))
    assert frame.groupby("source").share.sum().to_list() == pytest.approx([1.0] * 11)
    assert traced("cycles", "app.graph", "--format", "csv")[0] == 2
    assert traced("cycles", "app.graph", "--format", "csv", "--show", "cycles")[0] == 0


def test_stdin_is_read_as_a_graph_or_as_traces(traced, place):
    same = traced("flows", "app.graph", "-t", "app.parquet")
    assert traced("flows", "-", "-t", "app.parquet", stdin=GRAPH.encode())[1] == same[1]
    traced("convert", "-t", "app.parquet", "-o", "app.jsonl")
    assert traced("flows", "app.graph", "-t", "-", stdin=(place / "app.jsonl").read_bytes())[1] == same[1]
    assert traced("flows", "-", "-t", "-", stdin=b"")[0] == 2


def test_traces_add_up(traced):
    traced("simulate", "app.graph", "--runs", 300, "--seed", 4, "-o", "more.jsonl")
    _, _, err = traced("cycles", "app.graph", "-t", "app.parquet", "-t", "more.jsonl")
    assert "of 800 runs, " in err
    assert "a run from app.parquet and more.jsonl" in err


def test_convert_goes_round(traced, place):
    assert traced("convert", "app.graph", "-o", "app.dot")[0] == 0
    assert fs.read_graph("app.dot") == fs.read_graph("app.graph")
    assert traced("convert", "app.dot")[1] == fs.format_graph(fs.read_graph("app.graph"))
    assert traced("convert", "app.graph", "-o", "app.dot")[0] == 2
    assert traced("convert", "-t", "app.parquet", "-o", "app.jsonl")[0] == 0
    assert traced("convert", "-t", "app.jsonl", "-o", "again.parquet")[0] == 0
    before, after = fs.read_traces("app.parquet").frame(), fs.read_traces("again.parquet").frame()
    pd.testing.assert_frame_equal(before.astype(str), after.astype(str))


def test_draw_and_report(traced, place):
    assert traced("draw", "app.graph", "-t", "app.parquet")[1].lstrip().startswith("<")
    assert traced("draw", "app.graph", "-o", "app.png")[0] == 0
    assert (place / "app.png").read_bytes().startswith(b"\x89PNG")
    assert traced("report", "app.graph", "-t", "app.parquet")[0] == 0
    assert "self-injection" in (place / "app.html").read_text()
    assert traced("report", "app.graph", "-o", "app.doc")[0] == 2


def test_run_uses_the_behaviours_beside_the_graph(cli, place):
    (place / "app.py").write_text(
        "def pay(state, message, ctx):\n    ctx.emit(key='ok' if message.key == 'retry' else 'retry')\n"
        "def reserve(state, message, ctx):\n    ctx.emit(key='ok')\n"
        "def validate(state, message, ctx):\n    ctx.emit(key='ok')\n"
        "def helper():\n    pass\n"
    )
    code, out, err = cli("run", "app.graph", "--runs", 10, "-o", "app.parquet")
    assert (code, out) == (0, "")
    assert "helper" in err
    counts = fs.count(fs.read_traces("app.parquet"))
    assert counts.table["pay", "pay"] == counts.table["pay", "ship"] == 10
    assert counts.table["ship", "invoice notify"] == 10
    assert cli("run", "app.graph", "-o", "app.parquet")[0] == 2, "a trace is not overwritten by accident"


def test_run_takes_messages_from_stdin(cli):
    lines = b'{"node": "reserve", "key": "ok", "body": 1}\n\n{"node": "ship"}\n'
    assert cli("run", "app.graph", "--input", "-", "-o", "app.jsonl", stdin=lines)[0] == 0
    assert fs.count(fs.read_traces("app.jsonl")).starts == {"reserve": 1, "ship": 1}
    code, _, err = cli("run", "app.graph", "--input", "-", "-o", "b.jsonl", stdin=b'{"node": 1}\n')
    assert code == 2
    assert "-:1:" in err


def test_a_storm_ends_at_its_bound_with_code_1_and_a_complete_trace(cli, place):
    (place / "storm.graph").write_text("a -> b, c; b -> a; c -> a;")
    code, _, err = cli("run", "storm.graph", "--runs", 1, "--max-queue", 50, "-o", "storm.parquet")
    assert code == 1
    assert "message storm" in err
    counts = fs.count(fs.read_traces("storm.parquet"))
    sent = sum(counts.messages.values())
    assert sum(counts.events.values()) + sum(counts.pending.values()) == sent + 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["cycles", "none.graph"], "none.graph"),
        (["cycles", "."], "directory"),
        (["cycles", "app.graph", "-t", "none.parquet"], "no such trace"),
        (["cycles", "app.graph", "--start", "nowhere"], "nowhere"),
        (["run", "none.graph"], "none.graph"),
        (["run", "app.graph", "--behaviours", "none.py"], "none.py"),
        (["simulate", "app.graph", "--start", "nowhere"], "nowhere"),
        (["simulate", "app.graph", "-o", "app.graph"], "is there already"),
        (["convert"], "give a graph"),
        (["matrix", "app.graph", "--level", "1"], "level"),
        (["nonsense"], "nonsense"),
    ],
)
def test_bad_usage_is_code_2_and_no_traceback(cli, arguments, says):
    code, out, err = cli(*arguments)
    assert code == 2
    assert says in err
    assert "Traceback" not in err + out


def test_every_command_has_an_example():
    for name, command in flowstat.commands.items():
        assert "Example" in (command.epilog or ""), name
        assert f"flowstat {name}" in command.epilog


def test_the_readme_lists_the_commands():
    from pathlib import Path

    readme = (Path(__file__).parent.parent / "README.md").read_text()
    for name in flowstat.commands:
        assert f"| `{name}` |" in readme


def test_no_command_has_an_option_twice():
    for name, command in flowstat.commands.items():
        options = [option for parameter in command.params for option in parameter.opts]
        assert len(options) == len(set(options)), name
        names = [parameter.name for parameter in command.params]
        assert len(names) == len(set(names)), name


def test_circulation_takes_a_closed_class_apart(place, cli):
    (place / "poll.graph").write_text("start -> poll; start -> other; poll -> wait; wait -> poll; other -> other;")
    code, out, _ = cli("circulation", "poll.graph", "--of", "wait")
    assert code == 0
    assert "poll" in out
    assert "other" not in out


def test_cycles_by_time_take_recorded_or_stated_latencies(cli):
    spans = [
        {"traceId": "a", "id": "1", "name": "go", "timestamp": 1_000_000},
        {"traceId": "a", "id": "2", "parentId": "1", "name": "do", "timestamp": 3_000_000},
        {"traceId": "a", "id": "3", "parentId": "2", "name": "go", "timestamp": 3_500_000},
    ]
    with open("spans.json", "w") as file:
        json.dump(spans, file)
    with open("loop.graph", "w") as file:
        file.write("go -> do; do -> go;")
    by_time = ("cycles", "loop.graph", "--by", "time", "--prior", 0)
    code, out, err = cli(*by_time, "-t", "spans.json", "--format", "json", "--show", "cycles")
    assert code == 0, err
    [row] = json.loads(out)["rows"]
    # From go to do for sure, and back in one of two: once round takes 2 s and 0.5 s.
    assert row["time"] == pytest.approx(2.5 * row["traversals"])
    code, out, _ = cli("cycles", "loop.graph", "--by", "time", "--latency", "go -> do=1", "--latency", "do -> go=2,1")
    assert (code, "time: what all goings round take" in out) == (0, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--by", "time"], "no latency is known of"),
        (["--by", "time", "--latency", "a -> nobody=1"], "no latency of two nodes"),
        (["--through", "nobody"], "no node is called"),
        (["--latency", "pay -> pay=1"], "add --by time"),
    ],
)
def test_cycles_say_nothing_before_an_error(traced, options, message):
    code, out, err = traced("cycles", "app.graph", *options)
    assert (code, out) == (2, "")
    assert message in err
