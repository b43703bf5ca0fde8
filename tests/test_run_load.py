import pytest

from flowstat.errors import RunError
from flowstat.read.files import parse_graph
from flowstat.run.app import App
from flowstat.run.load import load_behaviours

GRAPH = parse_graph('order -> pay -> "billing eu" -> ship')


@pytest.fixture
def load(tmp_path):
    def loaded(text, graph=GRAPH, name="orders.py"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_behaviours(path, graph)

    return loaded


def test_functions_are_tied_by_name_or_by_mark(load):
    file = load(
        """
from os.path import join as ship          # not defined here
from flowstat.run.behaviour import on

def pay(state, message, ctx):
    ctx.emit(helper(message.body), key="ok")

def helper(body):
    return body + 1

def _order(state, message, ctx): ...

@on("billing eu", state=list)
def bill(state, message, ctx):
    state.append(message.body)
    ctx.emit(state)
"""
    )
    assert list(file.behaviours) == ["billing eu", "pay"]
    assert file.unused == ("helper",)
    app = App(GRAPH, behaviours=file.behaviours)
    got = []
    app.on("ship")(lambda state, message, ctx: got.append(message.body))
    app.run([("order", "", 1), ("order", "", 5)])
    assert got == [[2, 6], [2, 6]]


def test_two_marked_functions_of_one_name_and_a_wrapped_one_are_all_found(load):
    file = load(
        """
from functools import wraps
from flowstat.run.behaviour import on

@on("pay")
def _(state, message, ctx): ...

@on("order")
@on("ship")
def _(state, message, ctx): ...
"""
    )
    assert set(file.behaviours) == {"pay", "order", "ship"}


def test_a_file_can_use_its_neighbours_dataclasses_and_change_between_loads(load, tmp_path):
    (tmp_path / "beside_orders.py").write_text("FEE = 3\n")
    text = """
from __future__ import annotations
from dataclasses import dataclass
from beside_orders import FEE

@dataclass
class Order:
    price: int = FEE

def pay(state, message, ctx):
    ctx.emit(Order().price + 1)
"""
    for change in ("1", "2"):
        file = load(text.replace("+ 1", f"+ {change}"))
        got = []
        app = App(parse_graph("pay -> out"), behaviours=file.behaviours)
        app.on("out")(lambda state, message, ctx: got.append(message.body))  # noqa: B023
        app.run([("pay", "", None)])
        assert got == [3 + int(change)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def pay(state, message, ctx)\n    pass", r"orders\.py:1:\d+: expected ':'\ndef pay"),
        ("x = 1\n\nx = 1 / 0\n", r"orders\.py:3: ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit(3)", r"orders\.py:2: SystemExit: 3"),
        ("import no_such_module", r"orders\.py:1: ModuleNotFoundError"),
        (b"\xff\xfe", r"orders\.py"),
        (b"x = '\0'", r"orders\.py"),
        (
            "from flowstat.run.behaviour import on\n@on('billing us')\ndef f(state, message, ctx): ...",
            r"orders\.py:2: f: the graph has no node 'billing us': is it 'billing eu'",
        ),
        (
            "from flowstat.run.behaviour import on\n@on('pay')\ndef f(a, b, c): ...\ndef pay(a, b, c): ...",
            r"two behaviours for the node 'pay': .*orders\.py:2: f and .*orders\.py:4: pay",
        ),
        ("def pay(message): ...", r"orders\.py:1: pay takes \(message\): a behaviour takes three"),
        ("from flowstat.run.behaviour import on\n@on\ndef f(a, b, c): ...", r"orders\.py:2: RunError: name the node"),
    ],
)
def test_a_file_that_is_wrong(load, text, message):
    with pytest.raises(RunError, match=message):
        load(text)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(RunError, match="no behaviours file"):
        load_behaviours(tmp_path / "none.py", GRAPH)
    with pytest.raises(RunError, match="can't read the behaviours file"):
        load_behaviours(tmp_path, GRAPH)
    with pytest.raises(RunError, match="can't read the behaviours file"):
        load_behaviours("a\0b", GRAPH)
