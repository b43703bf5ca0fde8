"""Components: real programs beside the graph, started, watched, and ended with the run."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from time import monotonic, sleep, time_ns

import pytest

from flowstat.errors import RunError
from flowstat.read.canonical import open_writer
from flowstat.read.graph import Arrow, Component, Graph, Route
from flowstat.run.app import App
from flowstat.run.feeds import Ended
from flowstat.run.inject import Stream
from flowstat.run.lines import Line, line_of, message_of
from flowstat.run.live import LiveFeed
from flowstat.run.loop import Limits
from flowstat.run.program import Program, Supervision

QUICK = Supervision(restarts=2, wait=0.01, patience=5.0)


def python(code):
    return (sys.executable, "-u", "-c", textwrap.dedent(code))


def graph(*components, arrows=()):
    return Graph.of(arrows, components=components)


def seen_at(app, node):
    """Return the list of what will come to a node, which sends it on."""
    seen = []

    @app.on(node)
    def pass_on(state, message, ctx):
        seen.append((message.key, message.body))
        ctx.emit(message.body)

    vars(app).setdefault("seen", []).append(seen)
    return seen


def run(app, tmp_path, injections=(), **options):
    """Run with a journal and a trace, and check that a replay without any program does the same."""
    log = []
    options.setdefault("components", QUICK)
    with open_writer(tmp_path / "t.jsonl") as writer:
        result = app.run(injections, writer, journal=tmp_path / "j", log=log.append, **options)
    lists = vars(app).get("seen", [])
    kept = [list(seen) for seen in lists]
    again = app.replay(tmp_path / "j", against=tmp_path / "t.jsonl")
    for seen, before in zip(lists, kept, strict=True):
        assert seen == 2 * before
        seen[:] = before
    assert again.differences == ()
    assert again.run.events == result.events
    return result, log


def test_each_output_line_of_a_source_is_a_message(tmp_path):
    source = python(r"""print('plain'); print('{"body": [1], "key": "eu.paid"}'); print('{"other": 1}'); print()""")
    app = App(graph(Component(source, routes=(Route("a"), Route("b", "eu.*")))))
    a, b = seen_at(app, "a"), seen_at(app, "b")
    result, log = run(app, tmp_path)
    assert a == [("", "plain"), ("eu.paid", [1]), ("", '{"other": 1}'), ("", "")]
    assert b == [("eu.paid", [1])]
    assert (result.runs, result.components, log) == (5, (), [])


def test_a_wire_is_the_behaviour_of_its_node(tmp_path):
    wire = python("import sys\nfor line in sys.stdin: print(line.strip().upper())")
    app = App(graph(Component(wire, "scan", (Route("verdict"),)), arrows=[Arrow("audit", "#", "scan")]))
    seen = seen_at(app, "verdict")
    result, _ = run(app, tmp_path, [("audit", "", f"m{k}") for k in range(50)])
    assert seen == [("", f"M{k}") for k in range(50)]
    assert result.events == 150
    rows = (tmp_path / "t.jsonl").read_text()
    assert rows.count('"parent":"scan"') == 50
    assert rows.count('"sent":"verdict"') == 50


def test_a_sink_takes_messages_and_sends_nothing(tmp_path):
    sink = python(f"import sys; open({str(tmp_path / 'out')!r}, 'w').write(sys.stdin.read())")
    app = App(graph(Component(sink, "archive"), arrows=[Arrow("a", "#", "archive")]))
    run(app, tmp_path, [("a", "", "text"), ("a", "k", "text"), ("a", "", {"x": 1}), ("a", "", "two\nlines")])
    assert (tmp_path / "out").read_text().splitlines() == [
        "text",
        '{"key":"k","body":"text"}',
        '{"key":"","body":{"x":1}}',
        '{"key":"","body":"two\\nlines"}',
    ]


def test_a_wire_that_answers_less_or_more(tmp_path):
    """What is not answered sends nothing; a line too many is a message from outside."""
    wire = python(
        "import sys\nfor n, line in enumerate(sys.stdin):\n  if n < 2: print(n)\nprint('a'); print('b'); print('c')"
    )
    app = App(graph(Component(wire, "scan", (Route("verdict"),)), arrows=[Arrow("a", "#", "scan")]))
    seen = seen_at(app, "verdict")
    result, _ = run(app, tmp_path, [("a", "", str(k)) for k in range(4)])
    assert seen == [("", "0"), ("", "1"), ("", "a"), ("", "b"), ("", "c")]
    assert result.runs == 5
    app = App(graph(Component(python("import sys; sys.stdin.read()"), "scan", (Route("verdict"),))))
    (tmp_path / "silent").mkdir()
    result, _ = run(app, tmp_path / "silent", [("scan", "", k) for k in range(3)])
    assert (result.events, result.errors) == (3, ())


def test_a_program_that_fails_is_started_again_up_to_a_limit(tmp_path):
    source = python("import sys; print('once'); print('why', file=sys.stderr); sys.exit(3)")
    app = App(graph(Component(source, routes=(Route("a"),))))
    seen = seen_at(app, "a")
    _, log = run(app, tmp_path)
    assert seen == [("", "once")] * 3
    told = [line.partition(" ] ")[2] for line in log]
    assert told.count("why") == 3
    assert [line for line in told if line != "why"] == [
        "failed with exit code 3: started again in 0.01 s (1 of 2)",
        "failed with exit code 3: started again in 0.02 s (2 of 2)",
        "failed with exit code 3, after 2 restarts: given up",
    ]


def test_what_a_program_took_and_did_not_answer_is_an_error(tmp_path):
    wire = python("import sys; sys.stdin.readline(); print('first'); sys.stdin.readline(); sys.exit(1)")
    app = App(graph(Component(wire, "scan", (Route("verdict"),))))
    seen_at(app, "verdict")
    result, log = run(app, tmp_path, [("scan", "", str(k)) for k in range(20)])
    assert result.errors
    assert result.errors[0].node == "scan"
    assert result.pending == {}
    assert (tmp_path / "t.jsonl").read_text().count('"name":"scan"') == 20
    assert any("given up" in line for line in log)


def test_a_fast_source_waits_for_the_run(tmp_path):
    endless = python("import itertools\nfor k in itertools.count(): print(k)")
    app = App(graph(Component(endless, routes=(Route("a"),)), arrows=[Arrow("a", "#", "b")]))
    result, _ = run(app, tmp_path, limits=Limits(max_events=5_000, max_queue=600))
    assert "max_events" in result.stopped


def test_a_slow_sink_is_waited_for(tmp_path):
    sink = python("import sys, time\nfor n, line in enumerate(sys.stdin): n % 1000 or time.sleep(0.01)")
    source = python("for k in range(5000): print(k)")
    app = App(graph(Component(source, routes=(Route("a"),)), Component(sink, "a")))
    result, _ = run(app, tmp_path)
    assert (result.events, result.errors) == (5000, ())


def test_programs_end_with_the_run(tmp_path):
    stubborn = python(
        f"""
        import os, signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        open({str(tmp_path / "pid")!r}, "w").write(str(os.getpid()))
        print("up"), print("again")
        time.sleep(1000)
        """
    )
    app = App(graph(Component(stubborn, routes=(Route("a"),))))
    result, _ = run(app, tmp_path, limits=Limits(max_events=1), components=Supervision(patience=0.1))
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    assert result.events == 1


def alive(pid):
    """Whether a process runs; one that waits to be buried does not."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="programs die with a killed run on Linux only")
def test_programs_die_with_a_run_that_is_killed(tmp_path):
    code = f"""
        import sys
        from flowstat.run.app import App
        from flowstat.read.graph import *
        program = "import os,time;open({str(tmp_path / "pid")!r}, 'w').write(str(os.getpid()));print(1);time.sleep(999)"
        app = App(Graph.of(components=[Component((sys.executable, "-u", "-c", program), routes=(Route("a"),))]))
        app.on("a")(lambda state, message, ctx: print("got", flush=True))
        app.run([])
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE) as running:
        assert running.stdout.readline() == b"got\n"
        running.send_signal(signal.SIGKILL)
    pid, ended = int((tmp_path / "pid").read_text()), monotonic() + 20
    while alive(pid) and monotonic() < ended:
        sleep(0.01)
    assert not alive(pid)


def test_what_can_not_be_started():
    with pytest.raises(RunError, match=r"can't start the component \[ no-such-program x \]: there is no such program"):
        App(graph(Component(("no-such-program", "x"), routes=(Route("a"),)))).run([])
    with pytest.raises(RunError, match="two components take the messages of a"):
        App(graph(Component(("cat",), "a"), Component(("cat", "-"), "a"))).run([])
    app = App(graph(Component(("cat",), "a")))
    app.on("a")(lambda state, message, ctx: None)
    with pytest.raises(RunError, match=r"a behaviour, .*, and a component"):
        app.run([("a", "", 1)])


def test_lines_and_messages():
    assert message_of(line_of("k", {"x": [1, None]})) == ("k", {"x": [1, None]})
    assert message_of(line_of("", "plain")) == ("", "plain")
    for odd in ('{"key": 1, "body": 2}', "{", '{"key": "k"}', "[1]", '{"body": 1, "x": 2}'):
        assert message_of(odd) == ("", odd)
    with pytest.raises(RunError, match="texts and JSON"):
        line_of("", object())


def test_half_a_line_of_a_program_that_failed_is_no_message(tmp_path):
    half = python("import os,sys; sys.stdout.write('whole\\nhal'); sys.stdout.flush(); os._exit(1)")
    app = App(graph(Component(half, routes=(Route("a"),))))
    seen = seen_at(app, "a")
    _, log = run(app, tmp_path, components=Supervision(restarts=0))
    assert seen == [("", "whole")]
    assert any("ended within a line: its first 3 bytes are left out" in line for line in log)
    app = App(graph(Component(("printf", "x\\ny"), routes=(Route("a"),))))
    seen = seen_at(app, "a")
    (tmp_path / "ended").mkdir()
    run(app, tmp_path / "ended")
    assert seen == [("", "x"), ("", "y")]


def test_half_an_answer_is_a_failure(tmp_path):
    half = python("import os,sys; sys.stdin.readline(); sys.stdout.write('hal'); sys.stdout.flush(); os._exit(1)")
    app = App(graph(Component(half, "scan", (Route("verdict"),))))
    seen = seen_at(app, "verdict")
    result, _ = run(app, tmp_path, [("scan", "", "x")], components=Supervision(restarts=0))
    assert seen == []
    assert [(e.node, e.events) for e in result.errors] == [("scan", 1)]


def test_a_line_without_end_ends_its_program_in_bounded_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("flowstat.run.program.LONGEST_LINE", 1 << 16)
    app = App(graph(Component(("cat", "/dev/zero"), routes=(Route("a"),))))
    seen = seen_at(app, "a")
    _, log = run(app, tmp_path, components=Supervision(restarts=1, wait=0.01))
    assert seen == []
    assert sum("wrote a line of more than 65,536 bytes: it is killed" in line for line in log) == 2
    loud = python("import sys; sys.stderr.write('x' * 100_000); print('up')")
    app = App(graph(Component(loud, routes=(Route("a"),))))
    (tmp_path / "loud").mkdir()
    _, log = run(app, tmp_path / "loud")
    assert sum(line.count("x") for line in log) >= 100_000
    assert max(map(len, log)) < 10_000


def test_a_program_that_takes_nothing_does_not_hold_the_run(tmp_path):
    """One closes its input and lives on; one writes without end and reads nothing."""
    deaf = python("import os, time; os.close(0); print('deaf', flush=True); time.sleep(2)")
    app = App(graph(Component(deaf, "scan", (Route("verdict"),))))
    seen_at(app, "verdict")
    how = Supervision(restarts=0, patience=0.1)
    result, log = run(app, tmp_path, [("scan", "", "x" * 200) for _ in range(3000)], components=how)
    assert result.errors[0].node == "scan"
    assert result.pending == {}
    assert any("runs on though its input is over: the run waits for it" in line for line in log)
    app = App(graph(Component(("yes",), "scan", (Route("verdict"),))))
    result = app.run([("scan", "", "x" * 200) for _ in range(3000)], components=how, limits=Limits(max_events=20_000))
    assert "max_events" in result.stopped


def test_what_a_program_leaves_behind_ends_with_it(tmp_path):
    child = f"sleep 999 >/dev/null & echo $! > {tmp_path / 'pid'}; echo up"
    app = App(graph(Component(("sh", "-c", child), routes=(Route("a"),))))
    seen = seen_at(app, "a")
    run(app, tmp_path)
    assert seen == [("", "up")]
    assert not alive(int((tmp_path / "pid").read_text()))


def test_grandchildren_die_with_a_run_that_is_killed(tmp_path):
    code = f"""
        from flowstat.run.app import App
        from flowstat.read.graph import *
        program = "sleep 999 & echo $! > {tmp_path / "pid"}; echo up; wait"
        app = App(Graph.of(components=[Component(("sh", "-c", program), routes=(Route("a"),))]))
        app.on("a")(lambda state, message, ctx: print("got", flush=True))
        app.run([])
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE) as running:
        assert running.stdout.readline() == b"got\n"
        running.send_signal(signal.SIGKILL)
    pid, ended = int((tmp_path / "pid").read_text()), monotonic() + 20
    while alive(pid) and monotonic() < ended:
        sleep(0.01)
    assert not alive(pid)


def test_odd_bytes_and_deep_json_are_text(tmp_path):
    odd = python(
        r"""
        import sys
        sys.stdout.buffer.write(b'\xff\x00\n\r\n{"body":1,"key":"\\ud800"}\n')
        print('{"body":' + '[' * 900 + ']' * 900 + '}')
        print('{"body":"' + '[' * 900 + '\\""}')
        """
    )
    app = App(graph(Component(odd, routes=(Route("a"),))))
    seen = seen_at(app, "a")
    run(app, tmp_path)
    bodies = [body for _, body in seen]
    assert bodies[:3] == ["\ufffd\0", "", '{"body":1,"key":"\\ud800"}']
    assert bodies[3].startswith('{"body":[[[')
    assert bodies[4] == "[" * 900 + '"'


def test_a_log_that_fails_ends_no_program(tmp_path, capsys):
    def log(line):
        raise ValueError("no")

    app = App(graph(Component(python("import sys; print('x', file=sys.stderr); print('up')"), routes=(Route("a"),))))
    seen = seen_at(app, "a")
    app.run([], components=QUICK, log=log)
    assert seen == [("", "up")]
    assert "the log failed: ValueError: no" in capsys.readouterr().err


@pytest.mark.parametrize("argument", ["a\0b", "\ud800"])
def test_what_is_no_argument(argument):
    with pytest.raises(RunError, match=r"can't start the component \[ echo") as told:
        App(graph(Component(("echo", argument), routes=(Route("a"),)))).run([])
    assert str(told.value).isprintable()


@pytest.mark.parametrize(
    "how",
    [{"restarts": -1}, {"restarts": "x"}, {"wait": -1}, {"wait": float("nan")}, {"wait": 1e12}, {"patience": None}],
)
def test_what_is_no_supervision(how):
    with pytest.raises(RunError, match="or more"):
        Supervision(**how)


def test_sources_do_not_wait_for_a_stream(tmp_path):
    heard = threading.Event()
    app = App(graph(Component(("echo", "hi"), routes=(Route("a"),))))
    app.on("a")(lambda state, message, ctx: heard.set())

    def slow():
        assert heard.wait(60)
        yield ("a", "", "late")

    result = app.run(Stream(slow()), components=QUICK)
    assert (result.events, result.errors) == (2, ())


def test_many_stubborn_programs_end_side_by_side(tmp_path):
    """Ten programs that ignore SIGTERM."""
    stubborn = python(
        f"""
        import os, signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        open({str(tmp_path)!r} + f"/{{os.getpid()}}.pid", "w").close()
        print("up"), time.sleep(1000)
        """
    )
    app = App(graph(*[Component((*stubborn, str(k)), routes=(Route("a"),)) for k in range(10)]))
    app.run([], components=Supervision(patience=1.0), limits=Limits(max_events=9))
    assert len(list(tmp_path.glob("*.pid"))) == 10
    assert not any(alive(int(path.stem)) for path in tmp_path.glob("*.pid"))


class Ending:
    """Components of which all that comes is that a program has ended."""

    def __init__(self):
        self.lines = [Line("scan", wire=True, life=1, over=True)]
        self.program = Program(Component(("cat",), "scan", (Route("verdict"),)), self, QUICK)

    def taking(self):
        return {"scan": self.program}

    def waiting(self):
        return bool(self.lines)

    def take(self, timeout):
        return self.lines.pop() if self.lines else None

    def running(self):
        return False

    def close_next(self):
        return False


def test_the_end_of_a_program_is_nothing_to_take():
    """Messages that wait are handled first: the run does not end with them."""
    feed = LiveFeed(Ending(), [], time_ns)
    assert not feed.due(None, 0, 1)
    with pytest.raises(Ended):
        feed.take(None, 0)
