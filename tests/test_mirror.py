"""A mirror follows a journal with the same states, and takes over from a run that is killed."""

import os
import random
import signal
import threading
import time
from multiprocessing import get_context

import pytest

from flowstat.errors import OutputError, RunError
from flowstat.read.canonical import open_writer
from flowstat.read.files import parse_graph
from flowstat.read.graph import Component, Graph, Route
from flowstat.run.app import App
from flowstat.run.digest import digest
from flowstat.run.journal_writer import JournalWriter
from flowstat.run.latencies import LatencyLaw, VirtualTime

GRAPH = parse_graph("order -> pay; pay/again -> pay; pay/ok -> ship")
MESSAGES = 4_000


def made(chance=None):
    """Return an app whose states tell what was applied to them, and those states."""
    app, states = App(GRAPH, seed=3), {}

    def kept(name):
        def state():
            states[name] = {"applied": {}, "drawn": 0.0}
            return states[name]

        return state

    @app.on("order", state=kept("order"))
    def order(state, message, ctx):
        number = message.body["number"]
        state["applied"][number] = state["applied"].get(number, 0) + 1
        ctx.emit(message.body)

    @app.on("pay", state=kept("pay"))
    def pay(state, message, ctx):
        state["drawn"] += (chance or ctx.random).random()
        ctx.emit(message.body, key="again" if ctx.random.random() < 0.3 else "ok")

    @app.on("ship", state=kept("ship"))
    def ship(state, message, ctx):
        number = message.body["number"]
        state["applied"][number] = state["applied"].get(number, 0) + 1

    return app, states


def messages(number=MESSAGES):
    return (("order", "", {"number": k}) for k in range(number))


def run(path, number, marks):
    made()[0].run(messages(number), journal=path, marks=marks)


def test_a_mirror_has_the_states_of_the_run(tmp_path):
    context = get_context("fork")
    process = context.Process(target=run, args=(tmp_path / "j", 1000, 100))
    process.start()
    app, states = made()
    found = app.mirror(tmp_path / "j", messages(1000))
    process.join()
    assert (found.took_over, found.followed, found.compared) == (False, 1000, 10)
    assert found.states == {name: digest(state) for name, state in states.items()}
    assert states["ship"]["applied"] == dict.fromkeys(range(1000), 1)


def test_a_mirror_takes_over_and_nothing_is_lost_or_applied_twice(tmp_path):
    context, chance, taken = get_context("fork"), random.Random(4), []
    whole, whole_states = made()
    with open_writer(tmp_path / "whole.jsonl") as writer:
        whole.run(messages(), writer)
    for k in range(12):
        folder = tmp_path / str(k)
        folder.mkdir()
        process = context.Process(target=run, args=(folder / "j", MESSAGES, 500))
        process.start()
        killer = threading.Timer(chance.random() * 0.25, process.kill)
        killer.start()
        app, states = made()
        try:
            with open_writer(folder / "t.jsonl") as writer:
                found = app.mirror(folder / "j", messages(), writer, marks=500)
        except RunError as error:
            assert "before it accepted anything" in str(error)  # noqa: PT017
            continue
        finally:
            killer.cancel()
            process.join()
        taken.append(found.took_over)
        assert states["order"]["applied"] == dict.fromkeys(range(MESSAGES), 1)
        assert states == whole_states
        assert found.run.runs == MESSAGES
        # All of the run's trace, also of what the killed one had handled.
        assert (folder / "t.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
        # The journal that two processes wrote is one that can be replayed.
        again = made()[0].replay(folder / "j", against=folder / "t.jsonl")
        assert again.differences == ()
    assert any(taken)


def test_a_state_that_differs_is_named(tmp_path):
    made()[0].run(messages(20), journal=tmp_path / "j", marks=10)
    with pytest.raises(RunError, match="the mirror's state of pay is not that of the run, after 10 messages"):
        made(random.Random(9))[0].mirror(tmp_path / "j")


def test_only_one_process_writes_a_journal(tmp_path):
    with JournalWriter(tmp_path / "j", {"x": 1}), pytest.raises(OutputError, match="another process writes"):
        JournalWriter(tmp_path / "j", size=10)


def test_what_can_not_be_mirrored(tmp_path):
    app = App(Graph.of(components=[Component(("echo", "x"), routes=(Route("a"),))]))
    app.run([], journal=tmp_path / "live")
    with pytest.raises(RunError, match="with components"):
        app.mirror(tmp_path / "live")
    (tmp_path / "other").write_bytes(b"something else entirely")
    with pytest.raises(RunError, match="no journal"):
        made()[0].mirror(tmp_path / "other")
    made()[0].run(messages(2), journal=tmp_path / "j")
    with pytest.raises(RunError, match="another graph"):
        App(parse_graph("a -> b")).mirror(tmp_path / "j")


def test_a_torn_frame_is_cut_off_and_written_anew(tmp_path):
    process = get_context("fork").Process(target=run, args=(tmp_path / "j", 50, 0))
    process.start()
    process.join()
    data = (tmp_path / "j").read_bytes()
    end = data.rindex(b"\x81\xa3end") - 8
    (tmp_path / "j").write_bytes(data[: end - 5])
    app, states = made()
    found = app.mirror(tmp_path / "j", messages(50))
    assert (found.took_over, found.followed) == (True, 49)
    assert states["ship"]["applied"] == dict.fromkeys(range(50), 1)
    assert (tmp_path / "j").read_bytes() == data


def test_an_interrupted_mirror_ends(tmp_path):
    with JournalWriter(tmp_path / "j", {**header(), "limits": [100, 100, 100]}) as writer:
        writer.add(("order", "", {"number": 1}))
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        found = made()[0].mirror(tmp_path / "j")
    assert found.run.interrupted


def header():
    from flowstat.run.conduct import journal_header
    from flowstat.run.loop import Limits

    return journal_header(GRAPH, 3, None, Limits(), False)


CLOCKS = {
    "one by one": VirtualTime({("order", "pay"): LatencyLaw(1, 1)}),
    "at once": VirtualTime(LatencyLaw(1.0, 2.0), every=LatencyLaw(0.5, 0.5)),
    "wall": time.time_ns,
}


def in_time():
    """Return an app with timers, delays and an `async` behaviour that waits."""
    app, states = made()
    del app.behaviours["pay"]

    @app.on("pay", state=dict)
    async def pay(state, message, ctx):
        await ctx.sleep(ctx.random.random() * 1e-6)
        state["paid"] = state.get("paid", 0) + ctx.random.random()
        ctx.after(ctx.random.random() * 1e-3, "again" if ctx.random.random() < 0.3 else "ok", message.body)

    return app, states


def run_in_time(path, clock, number, end, within):
    """Run until the message `end` is asked for, or is within an event; there it is killed."""
    app, _ = in_time()
    del app.behaviours["ship"]

    @app.on("ship")
    def ship(state, message, ctx):
        if within and message.body["number"] == end:
            os.kill(os.getpid(), signal.SIGKILL)

    def dying():
        for message in messages(number):
            if not within and message[2]["number"] == end:
                os.kill(os.getpid(), signal.SIGKILL)
            yield message

    app.run(dying(), journal=path, clock=CLOCKS[clock], marks=0)


@pytest.mark.parametrize("clock", CLOCKS)
def test_a_mirror_takes_over_in_time(tmp_path, clock):
    context, chance, number = get_context("fork"), random.Random(6), 300
    whole, whole_states = in_time()
    with open_writer(tmp_path / "whole.jsonl") as writer:
        whole.run(messages(number), writer, clock=CLOCKS[clock], journal=tmp_path / "j", marks=50)
    for k in range(10):
        folder = tmp_path / str(k)
        folder.mkdir()
        process = context.Process(
            target=run_in_time, args=(folder / "j", clock, number, 1 + chance.randrange(number - 1), k % 2)
        )
        process.start()
        app, states = in_time()
        with open_writer(folder / "t.jsonl") as writer:
            found = app.mirror(folder / "j", messages(number), writer, marks=50)
        process.join()
        assert (process.exitcode, found.took_over, found.run.runs) == (-signal.SIGKILL, True, number)
        assert states["order"]["applied"] == states["ship"]["applied"] == dict.fromkeys(range(number), 1)
        if clock != "wall":  # to the byte, and with the same chance
            assert states == whole_states
            assert (folder / "t.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
        assert in_time()[0].replay(folder / "j", against=folder / "t.jsonl").differences == ()
