import io
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings

from flowstat.errors import GraphError
from flowstat.read.files import GraphFormat, format_graph, parse_graph, read_graph
from flowstat.read.graph import Arrow, Component, Graph, Route
from tests.strategies import graphs


def refusal(path: Path | str) -> str:
    with pytest.raises(GraphError) as caught:
        read_graph(path)
    return str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no.graph") == f"can't read the graph {tmp_path}/no.graph: No such file or directory"
    assert "null byte" in refusal("a\0b")


def test_a_directory(tmp_path: Path) -> None:
    assert "is a directory" in refusal(tmp_path)


@pytest.mark.parametrize("text", ["", " \n", "// only a comment", "# only one", ";;", "\ufeff", "digraph {}"])
def test_a_file_without_nodes(tmp_path: Path, text: str) -> None:
    path = tmp_path / "empty.graph"
    path.write_text(text, encoding="utf-8")
    assert refusal(path) == f"{path} is empty: it names no node"


def test_a_binary_file(tmp_path: Path) -> None:
    path = tmp_path / "binary.graph"
    path.write_bytes(b"PAR1\0\0\x15\x04")
    assert "binary file" in refusal(path)


def test_text_that_is_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "latin.graph"
    path.write_bytes("a -> b;\ncafé -> c;".encode("latin-1"))
    assert refusal(path).startswith(f"{path}:2: not UTF-8 text")


def test_mistakes_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "wrong.graph"
    path.write_bytes(b"\xef\xbb\xbfa -> b;\r\nc -> ;\r\n")
    assert refusal(path).startswith(f"{path}:2:6: ")


def test_unicode_names_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "unicode.graph"
    path.write_text('\ufeffзаказ -> 订单/ключ.# -> "😀 né";', encoding="utf-8")
    assert read_graph(path).arrows == (Arrow("заказ", "#", "订单"), Arrow("订单", "ключ.#", "😀 né"))


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a -> b")))
    assert read_graph("-").nodes == ("a", "b")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a ->")))
    assert refusal("-").startswith("<stdin>:1:5: ")


def test_a_graph_of_one_node_and_a_graph_without_arrows() -> None:
    one = parse_graph("a")
    assert (one.nodes, one.arrows, one.starts, one.expected_stop("a")) == (("a",), (), ("a",), 1.0)
    none = parse_graph("a; b; c;")
    assert (none.nodes, none.arrows, none.starts) == (("a", "b", "c"), (), ("a", "b", "c"))
    loop = parse_graph("a -> a")
    assert (loop.starts, loop.expected_shares("a"), loop.expected_stop("a")) == (("a",), {"a": 1.0}, 0.0)


@pytest.mark.parametrize(
    "text", ["digraph { a -> b }", '// x\n/* y */ strict digraph "g {" {\na -> b}', "DiGraph g{a->b}"]
)
def test_dot_is_recognised(text: str) -> None:
    assert [arrow[:3] for arrow in parse_graph(text).arrows] == [("a", "#", "b")]


@pytest.mark.parametrize("text", ['graph -> "{";', 'digraph/"{" -> b;', "strict -> graph -> a{;", "graph; a{;"])
def test_native_text_is_not_taken_for_dot(text: str) -> None:
    assert parse_graph(text) == parse_graph(text, "graph")


@pytest.mark.parametrize("ruler", ["/" * 5000, "#" * 5000, "//\n" * 5000, " " * 5000, "// /* " * 5000])
def test_long_rulers_before_the_graph(ruler: str) -> None:
    assert parse_graph(f"{ruler}\na -> b;").nodes == ("a", "b")


@pytest.mark.parametrize("format", ["graph", "dot"])
@settings(max_examples=25)
@given(graph=graphs())
@example(graph=Graph.of([Arrow("graph", "#", "{")]))
def test_both_formats_read_back(graph: Graph, format: GraphFormat) -> None:
    text = format_graph(graph, format)
    assert parse_graph(text, format) == parse_graph(text) == graph


def test_an_unknown_format() -> None:
    for call in (lambda: parse_graph("a", "png"), lambda: format_graph(Graph(("a",)), "png")):  # type: ignore[arg-type]
        with pytest.raises(GraphError, match="unknown graph format 'png': it is 'graph' or 'dot'"):
            call()


def test_parts_that_make_no_graph() -> None:
    long = "n" * 10_000_000
    wrong = {
        "two shares": [Arrow(long, long, long, 0.25), Arrow(long, long, long, 0.5)],
        "not between 0 and 1": [Arrow(long, "#", "b", -0.5)],
        "not between": [Arrow("a", "#", "b", float("nan"))],
        "add up to 1.25": [Arrow(long, "#", "b", 0.75), Arrow(long, "#", "c", 0.5)],
        "empty name": [Arrow("a", "#", "")],
    }
    for message, arrows in wrong.items():
        with pytest.raises(GraphError, match=message) as caught:
            Graph.of(arrows)
        assert len(str(caught.value)) < 400


def test_equal_parts_are_one() -> None:
    wire = Component(("c",), "a", (Route("b"),))
    graph = Graph.of([Arrow("a", "#", "b"), Arrow("a", "#", "b", 0.5), Arrow("a", "#", "b")], ["z", "a"], [wire, wire])
    assert graph == Graph(("z", "a", "b"), (Arrow("a", "#", "b", 0.5),), (wire,))


def test_shares_left_over_are_spread_or_stop() -> None:
    graph = parse_graph("a -> b @0.5; a/k -> b; a -> c; d -> e @0.9, f @0.05; g -> h @0.1, i @0.9; j -> k @1, l;")
    assert graph.expected_shares("a") == {"b": 0.75, "c": 0.25}
    assert [graph.expected_stop(node) for node in "adgj"] == [0.0, 0.05, 0.0, 0.0]
    assert graph.expected_shares("j") == {"k": 1.0, "l": 0.0}


def test_starts_are_fed_or_not_led_to() -> None:
    assert parse_graph("a -> a -> b; [ cmd ] -> b").starts == ("a", "b")
    assert parse_graph("a -> b -> a").starts == ("a", "b")
