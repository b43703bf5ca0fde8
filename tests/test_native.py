import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flowstat.errors import SHOWN_AT_ONCE, GraphError
from flowstat.read.graph import Arrow, Component, Graph, Route
from flowstat.read.native import format_native, parse_native
from flowstat.read.placing import EXCERPT
from flowstat.read.words import quote
from tests.strategies import graphs, names

MEANT = {
    # graphie knows no chains, no lists, no quotes, and takes nothing but a space between words.
    "a -> b -> c": "a -> b;\nb -> c;\n",
    "a / k -> b": "a/k -> b;\n",
    "[cmd]->b": "[ cmd ] -> b;\n",
    "a -> [ cmd ]": "a -> [ cmd ];\n",
    "a->b": "a -> b;\n",
    "a\t->\tb": "a -> b;\n",
    '"a b" -> c': '"a b" -> c;\n',
    # Text in quotes is one argument, and keeps its two blanks.
    'a -> q -> [ echo "hi  there" ] -> b': 'a -> q;\nq -> b;\nq -> [ echo "hi  there" ] -> b;\n',
    # A `;` after a component that ends a chain ends the statement, as anywhere else.
    "[ c ] -> b/k -> q -> [ d ] ; x -> y": "b/k -> q;\nx -> y;\n[ c ] -> b/k;\nq -> [ d ];\n",
    # A second slash is part of the key.
    "a -> q -> [ cmd ] -> b/x/y": 'a -> q;\nq/"x/y" -> b;\nq -> [ cmd ] -> b/"x/y";\n',
    # A node need not be sent to in the statement that ties a component to it.
    "a -> q ; q -> [ cmd ] -> b": "a -> q;\nq -> b;\nq -> [ cmd ] -> b;\n",
    # Two slashes begin a comment.
    "// -> b": "",
}
REFUSED = {
    "foo ->": (1, 7),
    "/ -> b": (1, 2),
    "[ cmd": (1, 1),
    "a -> q -> [": (1, 11),
    "[ cmd ]": (1, 1),
    "a -> b\nc -> d": (2, 1),
    "a b -> c": (1, 3),
    "a -> -> b": (1, 6),
    "a -> ; x -> y": (1, 6),
    'a -> b [ label="x" ]': (1, 8),
    "a b": (1, 3),
    "[ c ] ; x -> y": (1, 1),
}
TOKENS = [
    "a",
    "b",
    '"q r"',
    "->",
    "/",
    ",",
    ";",
    "[",
    "]",
    "[[",
    "]]",
    "@0.5",
    "@",
    "@2",
    "//x\n",
    "#",
    "\n",
    " ",
    "k.#",
]
TOKENS += ["\t", "\r\n", "\\", '"', '"\\', "-", ">", ".", "{", "/k", '/""', "\u2028", "-> b;", " -> ", "a -> b", "\n#"]
BROKEN = [("x y;", 3), ("x -> -> y;", 6), ("x -> y @2;", 6), ("x @0.5 -> y;", 1), ('x -> "y;', 6), ('"\\q" -> y;', 2)]
BROKEN += [
    ("x -> ;", 6),
    ('x -> "";', 6),
    ("x ->, y;", 5),
    ("x -> [ a ], y;", 11),
    ("x -> y//;", 7),
    ("[ a ];", 1),
    ("x @y;", 3),
]


def arrows(text: str) -> list[tuple[str, str, str]]:
    return [arrow[:3] for arrow in parse_native(text).arrows]


def mistakes(text: str) -> list[tuple[int, int, str]]:
    with pytest.raises(GraphError) as caught:
        parse_native(text)
    assert caught.value.mistakes
    return [mistake[:3] for mistake in caught.value.mistakes]


def meant_by(terms: list[list[Any]]) -> tuple[list[tuple[str, str, str]], list[Component], set[str]]:
    """Return the arrows, components and nodes that the terms of graphie's parser say."""
    made: list[tuple[str, str, str]] = []
    components: list[Component] = []
    nodes: set[str] = set()
    for kind, *term in terms:
        if kind == "bind":
            made.append((term[0], term[1], term[2]))
            nodes.update((term[0], term[2]))
        elif kind == "source":
            nodes.add(term[0])
            if len(term) == 3:
                components.append(Component(tuple(term[2]), None, (Route(term[0], term[1]),)))
        elif kind == "sink":
            components.append(Component(tuple(term[1]), term[0]))
        elif kind == "wire":
            queue, exchange, key, command = term
            made.append((queue, key, exchange))
            nodes.update((queue, exchange))
            components.append(Component(tuple(command), queue, (Route(exchange, key),)))
    return made, components, nodes


@pytest.mark.oracle
def test_what_graphie_accepts_means_the_same(shared_cases: Callable[[str], list[dict[str, Any]]]) -> None:
    cases = {case["input"]: case["terms"] for case in shared_cases("graphie_cases")}
    accepted = 0
    for text, terms in cases.items():
        if text in MEANT or text in REFUSED:
            continue
        assert all(isinstance(term, list) and term[0] != "error" for term in terms), f"{text!r} is neither"
        graph = parse_native(text)
        got = [arrow[:3] for arrow in graph.arrows], list(graph.components), set(graph.nodes)
        assert got == meant_by(terms), text
        accepted += 1
    assert accepted == len(cases) - len(MEANT) - len(REFUSED)
    assert accepted >= 20


@pytest.mark.parametrize("text", MEANT)
def test_what_graphie_misreads_is_read_as_meant(text: str) -> None:
    assert format_native(parse_native(text)) == MEANT[text]


@pytest.mark.parametrize("text", REFUSED)
def test_what_nobody_can_mean_is_refused_with_its_place(text: str) -> None:
    line, column = REFUSED[text]
    assert [m[:2] for m in mistakes(text)] == [(line, column)]
    with pytest.raises(GraphError, match=rf"^net\.graph:{line}:{column}: ") as caught:
        parse_native(text, "net.graph")
    excerpt = f"    {text.split(chr(10))[line - 1]}\n    {' ' * (column - 1)}^"
    assert str(caught.value).endswith(excerpt)


def test_the_design_s_example() -> None:
    graph = parse_native(
        """
        // comments run to the end of the line; so does a # that is first on its line
        # like this -> one;
        order -> validate;
        validate/ok.# -> reserve;            // source "/" topic key: only messages whose key matches
        payment/retry -> payment;            // a loop by direct self-injection
        payment/ok -> ship -> notify, audit; // a chain and a list: three arrows
        "billing eu" -> ledger;              // quoted names
        [ python sensor.py ] -> order;       // a component: a program whose output lines are messages
        ledger -> archive -> [ gzip -c ];    // a component fed by a node
        audit -> scan -> [ clamscan - ] -> verdict;   // a wire
        payment/ok -> ship @0.97;            // the designer's expected share
        """
    )
    assert graph.arrows == (
        Arrow("order", "#", "validate"),
        Arrow("validate", "ok.#", "reserve"),
        Arrow("payment", "retry", "payment"),
        Arrow("payment", "ok", "ship", 0.97),
        Arrow("ship", "#", "notify"),
        Arrow("ship", "#", "audit"),
        Arrow("billing eu", "#", "ledger"),
        Arrow("ledger", "#", "archive"),
        Arrow("audit", "#", "scan"),
        Arrow("scan", "#", "verdict"),
    )
    assert graph.components == (
        Component(("python", "sensor.py"), None, (Route("order"),)),
        Component(("gzip", "-c"), "archive"),
        Component(("clamscan", "-"), "scan", (Route("verdict"),)),
    )
    assert [component.kind for component in graph.components] == ["source", "sink", "wire"]
    assert graph.nodes == (
        *("order", "validate", "reserve", "payment", "ship", "notify", "audit"),
        *("billing eu", "ledger", "archive", "scan", "verdict"),
    )


def test_lists_on_both_sides_give_every_pair_in_order() -> None:
    assert arrows("a, b/k -> c, d -> e") == [
        *[("a", "#", "c"), ("a", "#", "d"), ("b", "k", "c"), ("b", "k", "d")],
        *[("c", "#", "e"), ("d", "#", "e")],
    ]


def test_comments_stand_where_a_word_could() -> None:
    text = (
        '# first\na // one; -> two\n -> // three\n // four\n # five\n b;c;// six\n#seven\n[ x // # ] -> "//"; a/#->#;'
    )
    assert arrows(text) == [("a", "#", "b"), ("a", "#", "#")]
    assert parse_native(text).nodes == ("a", "b", "c", "//", "#")
    assert parse_native(text).components[0].command == ("x", "//", "#")


def test_quotes_are_json_and_keep_every_character() -> None:
    graph = parse_native(r'"\"->\u00e9\n " / "" -> "x;y" @.5; "p/q" -> [ "a b"c "" "\t]" ];')
    assert graph.arrows == (Arrow('"->é\n ', "", "x;y", 0.5),)
    assert graph.components == (Component(("a bc", "", "\t]"), "p/q"),)


def test_more_brackets_let_a_component_hold_brackets() -> None:
    text = '[[ jq .a[0] ] ]] -> a; b -> [ test a[0] ]; c -> [[[ ]] "[" ]]];'
    commands = [component.command for component in parse_native(text).components]
    assert commands == [("jq", ".a[0]", "]"), ("test", "a[0]"), ("]]", "[")]


def test_a_wire_of_several_nodes_and_routes() -> None:
    graph = parse_native("p, q -> [ c ] -> x/k, y @0.25 -> z;")
    routes = (Route("x", "k"), Route("y"))
    assert graph.components == (Component(("c",), "p", routes), Component(("c",), "q", routes))
    assert [tuple(arrow) for arrow in graph.arrows] == [
        *[("p", "k", "x", None), ("p", "#", "y", 0.25), ("q", "k", "x", None), ("q", "#", "y", 0.25)],
        *[("x", "k", "z", None), ("y", "#", "z", None)],
    ]


def test_shares_merge_and_disagreement_is_a_mistake() -> None:
    assert parse_native("a -> b; a -> b @0.5; a -> b; a -> b @0.5").arrows == (Arrow("a", "#", "b", 0.5),)
    assert parse_native(";".join(f"a/{k} -> b @0.1" for k in range(10))).arrows[9].share == 0.1
    found = mistakes("a -> b @0.5;\na -> b @0.25;\nc -> d @1.5;\ne -> f @0.75, g @0.5;\nh -> i @1e999;")
    assert [(line, column) for line, column, _ in found] == [(2, 6), (3, 6), (4, 15), (5, 6)]
    wanted = (
        "already has the share 0.5",
        "between 0 and 1, not 1.5",
        "out of e add up to 1.25",
        "between 0 and 1, not inf",
    )
    assert all(text in message for text, (_, _, message) in zip(wanted, found, strict=True))


def test_all_mistakes_of_a_text_come_at_once() -> None:
    text = 'a b;\nc -> d;\ne -> ->;\n"f -> g; h\ni -> j k;\n"\\q" -> l; m n;\no -> [ p'
    places = [m[:2] for m in mistakes(text)]
    assert places == [(1, 3), (3, 6), (4, 1), (5, 8), (6, 2), (6, 14), (7, 6)]


def test_a_message_lists_some_mistakes_and_counts_the_rest() -> None:
    with pytest.raises(GraphError) as caught:
        parse_native("a b;" * 5000)
    assert len(caught.value.mistakes) == 5000
    assert f"and {5000 - SHOWN_AT_ONCE} more mistakes in <text>" in str(caught.value)
    assert max(map(len, str(caught.value).splitlines())) < EXCERPT + 20


@pytest.mark.parametrize("text", ['a "' + '\\"' * 20_000, "x -> [ " + "[" * 50_000, "a -> " + '"' * 50_000])
def test_odd_long_texts_are_refused(text: str) -> None:
    assert mistakes(text)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_of_every_system(end: str) -> None:
    assert mistakes(f"a -> b;{end}{end}\tc d;{end}")[0][:2] == (3, 4)


@given(graphs())
@example(Graph(("a", "x", "b"), (Arrow("a", "#", "b"),)))
@example(Graph.of([Arrow("a", "#", "b")], ["b", "a"], [Component(("c",), "b", (Route("a", "k"),))]))
@example(Graph(()))
def test_what_is_written_reads_back(graph: Graph) -> None:
    assert parse_native(format_native(graph)) == graph


@given(graphs())
def test_both_parsers_agree(graph: Graph) -> None:
    lines = format_native(graph).splitlines(keepends=True)
    assert parse_native("".join("// not plain\n" + line for line in lines)) == graph
    plain = [line for line in lines if '"' not in line]
    spaced = ("\t" + line.replace("-> ", " ->\n  ").replace(";", " // it ends\n;") for line in plain)
    assert parse_native("".join(spaced)) == parse_native("".join(plain))


@given(st.lists(st.sampled_from(["a", "b-", "c.", "é"]), min_size=2, max_size=6), st.data())
def test_both_parsers_find_the_same_mistakes(nodes: list[str], data: st.DataObject) -> None:
    ends = st.sampled_from(["", " @0.7", " @2", " @1"])
    lines = [f"{a} -> {b}{data.draw(ends)};" for a, b in itertools.pairwise(nodes)]
    outcomes: list[object] = []
    # A comment stops the fast path; it stands at the end of the line before, so that places stay.
    for end in ("\n", " //\n"):
        try:
            outcomes.append(parse_native(end + end.join(lines)))
        except GraphError as error:
            outcomes.append([(m.line, m.column, m.message) for m in error.mistakes])
    assert outcomes[0] == outcomes[1]


@given(st.text(max_size=40) | st.lists(st.sampled_from(TOKENS), max_size=25).map("".join))
def test_any_text_gives_a_graph_or_its_mistakes(text: str) -> None:
    try:
        graph = parse_native(text)
    except GraphError:
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        assert all(1 <= column <= len(lines[line - 1]) + 1 for line, column, _ in mistakes(text))
        return
    assert parse_native(format_native(graph)) == graph


@given(st.lists(names, max_size=6), st.sampled_from(BROKEN), st.integers(0, 6), st.integers(0, 5))
def test_a_mistake_is_named_by_its_line_and_column(
    nodes: list[str], broken: tuple[str, int], at: int, indent: int
) -> None:
    lines = [f"{quote(name)} -> // next\n {quote(name)}; z;" for name in nodes]
    text, column = broken
    at = min(at, len(lines))
    lines.insert(at, " " * indent + text)
    found = mistakes("\n".join(lines))
    assert found[0][:2] == (2 * at + 1, indent + column)
    if text.endswith(";"):
        assert len(found) == 1


def test_a_name_of_ten_megabytes() -> None:
    name = "n" * 10_000_000
    for text in (f"{name} -> b;", f'"{name} " -> b;'):
        graph = parse_native(text)
        assert len(graph.nodes[0]) >= len(name)
        assert parse_native(format_native(graph)) == graph
    with pytest.raises(GraphError) as caught:
        parse_native(f"{name} -> b @0.5, c @0.75; {name} {name};")
    assert len(caught.value.mistakes) == 2
    assert len(str(caught.value)) < 1000
