import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flowstat.errors import GraphError
from flowstat.read.dot import format_dot, parse_dot
from flowstat.read.graph import Arrow, Component, Graph, Route

GRAPHS = Path(__file__).parents[2] / "shared" / "data" / "graphs"
AWKWARD = ["node", "Edge", "strict", "digraph", "a:b", "3", "-1.5", "1e5", 'q"', "\\", "\\N", "\\\\n", "x\ny", "\r"]
AWKWARD += ["a->b", "<b>", "&amp;", "#", "//", "component_1", "\0", "🙂", " ", "\\u0041", "name", "é\u2028"]

names = st.sampled_from(AWKWARD) | st.text(min_size=1, max_size=6) | st.sampled_from("abcd")
keys = st.sampled_from(["#", "", "ok", "a.*", "\\l"]) | st.text(max_size=4)
shares = st.none() | st.floats(0, 0.1)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    route = st.builds(Route, names, keys)
    commands = st.lists(st.text(max_size=5) | st.sampled_from(AWKWARD), max_size=3).map(tuple)
    component = st.builds(Component, commands, st.none() | names, st.lists(route, max_size=3).map(tuple)).filter(
        lambda made: made.node is not None or made.routes
    )
    arrows = draw(st.lists(st.builds(Arrow, names, keys, names, shares), max_size=6, unique_by=lambda a: a[:3]))
    return Graph.of(arrows, draw(st.lists(names, max_size=5)), draw(st.lists(component, max_size=3)))


def arrows(text: str) -> list[tuple[str, str, str]]:
    return [a[:3] for a in parse_dot(text).arrows]


@given(graphs())
@example(Graph.of([Arrow("a", "#", "a", 1e-300)], ["component_1"], [Component((), "a", ())]))
@example(Graph(()))
def test_what_is_written_reads_back(graph: Graph) -> None:
    assert parse_dot(format_dot(graph)) == graph


@given(st.text(max_size=40) | st.text('digraph{}[]";,=:-><#/\\ \nab+', max_size=40).map("digraph {".__add__))
def test_any_text_gives_a_graph_or_a_graph_error(text: str) -> None:
    with suppress(GraphError):
        parse_dot(text)


def test_chains_groups_and_clusters_keep_the_order_of_appearance() -> None:
    text = """
    strict digraph "my graph" {   // a comment
      graph [label="x"]; node [shape=box, name="y"] edge [label="default"]
      rankdir=LR;
      subgraph cluster_a { label="A"; z; subgraph { y -> x } };
      # another
      a -> b -> c /* and */ -> {d; e -> f} ; {g h} -> a; ;
      "b":port:ne -> <c>:p
    }"""
    graph = parse_dot(text)
    assert graph.nodes == tuple("zyxabcdefgh")
    assert [a.source + a.target for a in graph.arrows] == ["yx", "ab", "bc", "ef", "cd", "ce", "cf", "ga", "ha"]
    assert {a.key for a in graph.arrows} == {"#"}


def test_a_key_is_the_key_else_the_label_else_any() -> None:
    text = r"""digraph { a -> b [key="", label="x"]; a -> c [label="two\nlines"]; a -> d [label=""]
      a -> e [label=<<b>R&amp;D</b><br/>x>]; a -> f ["label"="a" + "b"]; a -> g [label]; a -> h [label=-1, label=2] }"""
    assert [key for _, key, _ in arrows(text)] == ["", "two lines", "#", "R&D x", "ab", "#", "2"]


def test_escapes_in_names() -> None:
    text = r"""digraph { "say \"hi\"" -> "back\\slash"; "C:\dir" -> "two\nlines"; "joined\
up" -> "" + "x"; <i> -> <<i>j</i>> -> <<img/>>; caf\u00e9 }""".replace("caf\\u00e9", "café -> 🙂 -> .5 -> -3")
    assert parse_dot(text).nodes == (
        *('say "hi"', "back\\slash", "C:\\dir", "two\nlines", "joinedup", "x"),
        *("i", "j", "<img/>", "café", "🙂", ".5", "-3"),
    )


def test_attribute_names_that_pydot_takes_for_its_own() -> None:
    text = "digraph { a [name=1, obj_dict=2, self=3]; a -> b [src=1, dst=2, obj_dict=3, self=4, <x>=5] }"
    assert arrows(text) == [("a", "#", "b")]


def test_a_component_written_by_hand() -> None:
    graph = parse_dot("digraph { p [command=\"gzip -c 'a b'\"]; a -> p; b -> p -> c [label=ok] }")
    assert graph.nodes == ("a", "b", "c")
    command = ("gzip", "-c", "a b")
    # The label belongs to the whole chain; only the way out has a key.
    assert graph.components == tuple(Component(command, node, (Route("c", "ok"),)) for node in "ab")
    assert arrows('digraph { p [command="x"]; a -> p -> b }') == [("a", "#", "b")]


def test_what_people_see() -> None:
    text = format_dot(Graph.of([Arrow("a", "ok", "b", 0.97), Arrow("a", "#", "c", 0.03), Arrow("b", "k", "c")]))
    assert 'label="ok  97%"' in text
    assert 'label="3%"' in text
    assert "label=k" in text


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("graph { a -- b }", 1, 1, "undirected"),
        ("digraph { a -- b }", 1, 13, "no direction"),
        ("digraph {\n a -> ;\n}", 2, 4, "from '->' on"),
        ("digraph {\n a -> b [label=];\n}", 2, 9, "from '[' on"),
        ("digraph { a }\ndigraph { b }", 2, 1, "second graph"),
        ("digraph { a } b", 1, 15, "after the graph"),
        ("digraph { a -> b", 1, 9, "ends what begins here"),
        ("digraph { } }", 1, 13, "after the graph"),
        ("digraph } {", 1, 9, "closes nothing"),
        ("digraph", 1, 1, "ends what begins here"),
        ("strict", 1, 1, "expected 'digraph'"),
        ('digraph { "a }', 1, 11, "quote is not closed"),
        ("digraph { <a }", 1, 11, "HTML"),
        ("digraph { a /* }", 1, 13, "comment"),
        ("digraph { a ! b }", 1, 13, "'!'"),
        ("a -> b;", 1, 1, "expected 'digraph'"),
        ("\x89PNG\r\n\x1a\n\0\0\0", 2, 1, "unexpected character"),
        ("digraph { node -> b }", 1, 11, "quotes"),
        ("digraph { b -> node [x=y] }", 1, 16, "quotes"),
        ('digraph { "" -> b }', 1, 11, "needs a name"),
        ("digraph { a -> b\n[share=1.5] }", 2, 8, "between 0 and 1, not '1.5'"),
        ("digraph { a -> b [share=nan] }", 1, 25, "between 0 and 1"),
        ("digraph { a -> b [share=many] }", 1, 25, "between 0 and 1"),
        ('digraph { a [command="it\'s"] }', 1, 22, "no command line"),
        ("digraph { a [command=x] b [command=y] a -> b }", 1, 39, "not to a component"),
        ("digraph { a [command=x] a -> b [share=1] }", 1, 25, "between two nodes"),
        ("digraph { subgraph x; }", 1, 11, "in braces"),
        ("digraph { a -> subgraph }", 1, 16, "in braces"),
        ("digraph { " + "{ " * 9 + "a" + "} -> b" * 9 + "}", 1, 11, "deep"),
    ],
)
def test_a_mistake_has_its_place(
    text: str, line: int, column: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(GraphError) as caught:
        parse_dot(text, "app.dot")
    (mistake,) = caught.value.mistakes
    assert (mistake.line, mistake.column) == (line, column)
    assert words in mistake.message
    assert str(caught.value).startswith(f"app.dot:{line}:{column}: ")
    assert mistake.excerpt.splitlines()[1].index("^") - 4 == column - 1
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("text", ["", " \n", "// nothing\n"])
def test_an_empty_text(text: str) -> None:
    with pytest.raises(GraphError, match=r"app\.dot: it is empty"):
        parse_dot(text, "app.dot")


@pytest.mark.parametrize(
    "text", ["digraph { a -> b [share=.5]; a -> b [share=.4] }", "digraph { a -> b [share=.7]; a -> c [share=.7] }"]
)
def test_shares_that_contradict_name_the_file(text: str) -> None:
    with pytest.raises(GraphError, match=r"app\.dot: the .*share"):
        parse_dot(text, "app.dot")


def test_clusters_may_nest_deeply() -> None:
    depth = 2000
    assert arrows("digraph {" + "subgraph cluster_x { " * depth + "a -> b" + "}" * depth + "}") == [("a", "#", "b")]


def oracle(name: str) -> str:
    path = GRAPHS / name
    if not path.exists():
        reason = f"{path.name} is not beside the project (../shared/data/graphs)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return path.read_text(encoding="utf-8")


@pytest.mark.oracle
def test_the_states_of_a_kernel_driver() -> None:
    graph = parse_dot(oracle("linux_drbd_conn-states-8.dot"))
    assert len(graph.nodes) == 11
    assert len(graph.arrows) == 16
    assert Arrow("Connected", "* on network error", "WFConnection") in graph.arrows
    assert Arrow("SyncSource", "#", "PausedSyncS") in graph.arrows


@pytest.mark.oracle
def test_a_graph_that_graphie_drew() -> None:
    graph = parse_dot(oracle("graphie_test.dot"))
    assert [a[:3] for a in graph.arrows] == [
        ("producer", "#", "pipe-in"),
        ("pipe-in", "pipe process", "pipe-out"),
        ("pipe-out", "#.us", "consumer"),
    ]
