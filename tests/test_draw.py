import re
from pathlib import Path
from unittest import mock
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from flowstat.analyze.loops import loops
from flowstat.analyze.stationary import stationary
from flowstat.errors import AnalysisError, OutputError
from flowstat.estimate.chain import Chain, estimate
from flowstat.estimate.counts import Counts
from flowstat.explain.sentences import loop_sentence
from flowstat.read.dot import percent
from flowstat.read.graph import Arrow, Component, Graph, Route
from flowstat.read.native import parse_native
from flowstat.results import number
from flowstat.show import layout, whole
from flowstat.show import traffic as traffic_module
from flowstat.show.draw import THICK, draw
from flowstat.show.layout import Drawing
from flowstat.show.looks import HUES, PALE, brief
from flowstat.show.pictured import picture_of
from flowstat.show.traffic import traffic
from tests.oracles import chain_of, chains

SVG = "{http://www.w3.org/2000/svg}"
ORDERS = parse_native(
    """
    [ python sensor.py ] -> order -> pay;
    pay/retry -> pay @0.2;  pay/ok -> ship @0.7;
    ship -> stock/low -> ship;
    audit -> scan -> [ clamscan - ] -> verdict;
    """
)


def texts(svg: str, tag: str = "text") -> list[str]:
    return ["".join(e.itertext()).replace("\xa0", " ") for e in ElementTree.fromstring(svg).iter(SVG + tag)]


def tips(drawing: Drawing) -> list[str]:
    return texts(drawing.svg, "title")


def colours(svg: str) -> dict[str, str]:
    """Return each arrow's colour by its tooltip's beginning."""
    groups = [g for g in ElementTree.fromstring(svg).iter(SVG + "g") if g.get("class") == "edge"]
    found = {}
    for group in groups:
        title, path = group.find(SVG + "title"), next(group.iter(SVG + "path"))
        if title is not None and title.text:
            found[title.text.partition(":")[0]] = path.get("stroke", "")
    return found


def line_of(k: int) -> Chain:
    """Return a chain 0 -> 1 -> ... that loses a tenth at each step."""
    P = [[0.9 * (j == i + 1) for j in range(k)] for i in range(k)]
    return Chain.from_matrix(P, stop=[0.1] * (k - 1) + [1.0])


def test_a_graph_shows_keys_shares_starts_ends_and_components() -> None:
    svg = draw(ORDERS).svg
    shown = texts(svg)
    assert {"order", "pay", "python sensor.py", "clamscan -"} <= set(shown)
    assert {"retry  20%", "ok  70%", "low"} <= {text.strip() for text in shown}
    assert "stops 10%" in shown
    assert "bold border: runs start · colour: a loop, its box named by its header" in shown
    assert "pay -> ship: ok  70%" in texts(svg, "title")


def test_each_loop_has_its_own_colour() -> None:
    found = colours(draw(ORDERS).svg)
    assert found["pay -> pay"] in HUES
    assert found["ship -> stock"] == found["stock -> ship"] in HUES
    assert found["ship -> stock"] != found["pay -> pay"]
    assert found["pay -> ship"] not in HUES


def test_a_chain_shows_its_shares() -> None:
    chain = Chain.from_matrix(
        [[0, 1, 0], [0.25, 0.1, 0.6498], [0, 0, 0]], ["a", "b", "c"], start={"a": 1}, stop=[0, 0.0002, 1]
    )
    drawing = draw(chain)
    shown = {text.strip() for text in texts(drawing.svg)}
    assert {"100%", "25%", "10%", "65%", "stops 100%"} <= shown
    assert not any(text.startswith("stops <") for text in shown)
    assert any(text.startswith("b -> c: 64.98%  ") for text in texts(drawing.svg, "title"))


def test_a_chain_shows_the_keys_and_components_of_its_graph() -> None:
    graph = Graph.of(
        [Arrow("a", "ok", "b"), Arrow("a", "", "b"), Arrow("a", "rare", "a")],
        components=[Component(("feed", "x y"), None, (Route("a", "in"),))],
    )
    chain = Chain.from_matrix([[0.0, 0.9], [0.3, 0.0]], ["a", "b"], start="a", stop=[0.1, 0.7])
    svg = draw(Chain(chain.names, chain.P, chain.stop, chain.start, None, graph)).svg
    shown = {text.strip() for text in texts(svg)}
    assert {'ok, ""  90%', "rare  0%", "30%", "feed 'x y'", "in"} <= shown
    assert any("dotted: not in the graph file" in text for text in shown)
    assert colours(svg)["a -> a"] not in HUES


def test_a_cycle_stands_out() -> None:
    found = colours(draw(ORDERS, highlight=["ship", "stock", "ship"]).svg)
    assert found["ship -> stock"] in HUES
    assert found["pay -> pay"] == PALE
    with pytest.raises(OutputError, match="no node is called 'nowhere'"):
        draw(ORDERS, highlight=["nowhere"])


def penwidths(drawing: Drawing) -> dict[str, float]:
    """Return the width of each arrow by its ends, as nodes are labelled, whichever way the layout sees it."""
    names = {n: label.split("\\n")[0] for n, label in re.findall(r'(n\d+) \[id=n\d+, label="([^"]*)"', drawing.dot)}
    found = {}
    for line in drawing.dot.splitlines():
        ends = re.match(r"\s*(n\d+) -> (n\d+) \[(.*)\];", line)
        width = re.search(r"penwidth=([0-9.]+)", line)
        if ends and width:
            a, b = ends[1], ends[2]
            if "dir=back" in line:
                a, b = b, a
            found[f"{names[a]} -> {names[b]}"] = float(width[1])
    return found


def test_arrows_are_as_wide_as_they_are_travelled() -> None:
    chain = chain_of({"a": {"b": 1}, "b": {"a": 0.5, "c": 0.25}, "c": {"b": 0.5}}, "a")
    visits = chain.start @ np.linalg.inv(np.eye(3) - chain.P.toarray())
    messages = visits[:, None] * chain.P.toarray()
    drawing = draw(chain)
    widths = penwidths(drawing)
    for (i, j), flow in np.ndenumerate(messages):
        if flow:
            ends = f"{chain.names[i]} -> {chain.names[j]}"
            assert widths[ends] == pytest.approx(THICK * flow / messages.max(), abs=0.01)
            assert any(text.startswith(ends) and f"{number(flow)} messages a run" in text for text in tips(drawing))
    assert any(f"width: messages of a run, the thickest {brief(messages.max())}" in t for t in texts(drawing.svg))


def test_a_closed_class_is_as_wide_as_its_stationary_flow() -> None:
    chain = Chain.from_matrix(
        [[0, 0.5, 0, 0], [0, 0, 1, 0], [0, 0.25, 0, 0.75], [0, 1, 0, 0]], list("sabc"), "s", stop=[0.5, 0, 0, 0]
    )
    drawing = draw(chain)
    widths = penwidths(drawing)
    # The law is 3 : 3 : 2.25 less a factor; the class is come to in half of the runs, and so is half as wide.
    law = {row["node"]: row["law"] for row in stationary(chain).rows()}
    flow = {"a -> b": law["a"], "b -> a": law["b"] / 4, "b -> c": 3 * law["b"] / 4, "c -> a": law["c"]}
    for ends, value in flow.items():
        assert widths[ends] == pytest.approx(THICK * 0.5 * value / max(flow.values()), abs=0.01)
    assert widths["s -> a"] == THICK
    assert any("where runs never end, messages per event in the long run" in text for text in texts(drawing.svg))
    assert any("loop a: never left" in text for text in texts(drawing.svg))


JOBS = parse_native(
    "submit -> queue -> fetch; fetch/retry -> fetch @0.1; fetch/ok -> transform; transform/damaged -> fetch @0.1;"
    "transform/ok -> store; transform/failed -> requeue @0.05; store/failed -> requeue @0.05; requeue/again -> queue;"
    "requeue/dead -> gone @0.1; store/ok -> done;"
)


@pytest.mark.parametrize("of", ["graph", "chain"])
def test_loops_are_nested_boxes_with_what_is_known_of_them(of: str) -> None:
    chain = estimate(Counts(), JOBS)
    drawing = draw(JOBS if of == "graph" else chain)
    outer, inner = (drawing.dot.index(f'label="loop {name}') for name in ("queue", "fetch"))
    assert outer < inner
    inside = drawing.dot[inner:].partition("}")[0]
    assert 'label="fetch"' in inside
    assert 'label="transform"' in inside
    assert 'label="store"' not in inside
    assert drawing.dot[outer:inner].count("}") == 0
    found = colours(drawing.svg)
    assert len({found["fetch -> fetch"], found["transform -> fetch"], found["requeue -> queue"]}) == 3
    assert found["fetch -> transform"] == found["transform -> fetch"]
    assert found["store -> requeue"] == found["queue -> fetch"] == found["requeue -> queue"]
    assert found["submit -> queue"] not in HUES
    if of == "graph":
        assert len(set(penwidths(drawing).values())) == 1
        return
    for loop in loops(chain).loops:
        if loop.kind == "chain":
            said = f"loop {loop.header}: {brief(loop.rounds)} rounds, gain {brief(loop.gain)}"
            assert said in texts(drawing.svg)
            assert loop_sentence(loop) in tips(drawing)


def test_a_gain_next_to_1_is_not_said_to_be_1() -> None:
    chain = Chain.from_matrix([[0, 1], [1 - 1e-9, 0]], ["a", "b"], "a", stop=[0, 1e-9])
    assert "loop a: 1e+09 rounds, gain just below 1" in texts(draw(chain).svg)


def test_a_large_chain_keeps_what_carries_the_most() -> None:
    drawing = draw(line_of(300), highlight=["298", "299"])
    names = {text for text in texts(drawing.svg) if text.isdigit()}
    assert names == {str(k) for k in range(40)} | {"298", "299"}
    rare = sum(0.9**k for k in range(40, 298)) / sum(0.9**k for k in range(300))
    said = f"grey: 258 of 300 nodes, those with the least traffic ({percent(rare)} of all events), taken together"
    assert any(text.startswith(said) for text in texts(drawing.svg))
    assert len({text for text in texts(draw(line_of(300), nodes=100).svg) if text.isdigit()}) == 100
    assert not any("grey" in text for text in texts(draw(line_of(60)).svg))
    with pytest.raises(OutputError, match="at least one node"):
        draw(line_of(3), nodes=0)


def test_one_that_would_be_alone_is_shown_by_its_name() -> None:
    assert not any("rare" in text for text in texts(draw(line_of(5), nodes=4).svg))
    assert any("rare" in text for text in texts(draw(line_of(5), nodes=3).svg))


def wheel(spokes: int) -> Chain:
    """Return a hub that sends to many nodes, which send back, ever fewer to the later ones."""
    weights = np.array([2.0**-k for k in range(spokes)])
    P = np.zeros((spokes + 1, spokes + 1))
    P[0, 1:] = 0.8 * weights / weights.sum()
    P[1:, 0] = 0.5
    stop = [0.2, *[0.5] * spokes]
    return Chain.from_matrix(P, ["hub", *(f"s{k}" for k in range(spokes))], "hub", stop=stop)


def test_what_is_rare_in_a_loop_is_one_node_with_what_flows_through_it() -> None:
    chain = wheel(20)
    picture = picture_of(chain, 6, [], frozenset())
    rare = [k for k, node in enumerate(picture.nodes) if node.rare]
    assert [picture.nodes[k].rare for k in rare] == [15]
    visits = chain.start @ np.linalg.inv(np.eye(21) - chain.P.toarray())
    assert picture.nodes[rare[0]].events == pytest.approx(visits[6:].sum())
    assert picture.rare == (15, pytest.approx(visits[6:].sum() / visits.sum()))
    into = {arrow.pair: arrow.messages for arrow in picture.arrows if rare[0] in arrow.pair}
    assert into == {
        (0, rare[0]): pytest.approx(visits[0] * chain.P.toarray()[0, 6:].sum()),
        (rare[0], 0): pytest.approx(0.5 * visits[6:].sum()),
    }
    drawing = draw(chain, nodes=6)
    assert "15 rare nodes" in texts(drawing.svg)
    assert f"{percent(visits[6:].sum() / visits.sum())} of events" in texts(drawing.svg)


@given(chains(traps=True), st.integers(1, 4), st.sampled_from([0, 12]))
@settings(max_examples=80, deadline=None)
def test_no_flow_is_lost(chain: Chain, most: int, ties: int) -> None:
    """What is drawn, what is among rare nodes and what is left out are all messages together."""
    with mock.patch.object(whole, "TIES", ties):
        picture = picture_of(chain, most, [], frozenset())
    flow = traffic(chain)
    rows, columns, _ = chain.arrows()
    kept = np.array([name in picture.index for name in chain.names])
    named = sum(a.messages or 0 for a in picture.arrows if not any(picture.nodes[end].rare for end in a.pair))
    assert named == pytest.approx(flow.messages[kept[rows] & kept[columns]].sum())
    drawn = sum(a.messages or 0 for a in picture.arrows)
    left = (picture.left_out[1] or 0.0) * flow.messages.sum()
    among = flow.messages[~kept[rows] & ~kept[columns]].sum()
    assert drawn + left <= flow.messages.sum() + 1e-9
    assert drawn + left >= flow.messages.sum() - among - 1e-9
    assert sum(kept) + picture.rare[0] == len(chain.names)
    assert picture.rare[1] == pytest.approx(flow.share[~kept].sum())


@given(chains(largest=6, traps=True))
@settings(max_examples=25, deadline=None)
def test_any_chain_is_drawn(chain: Chain) -> None:
    svg = draw(chain, nodes=3).svg
    assert "nan" not in svg
    assert set(texts(svg)) & set(chain.names)


def test_rare_nodes_that_are_tied_to_everything_are_cut_apart_within_their_box() -> None:
    n = 100
    P = np.zeros((n, n))
    for i in range(n):
        P[i, (i + 1) % n] += 0.5
        P[i, (7 * i + 3) % n] += 0.3
    picture = picture_of(Chain.from_matrix(P, start="0", stop=1 - P.sum(axis=1)), None, [], frozenset())
    rare = [k for k, node in enumerate(picture.nodes) if node.rare]
    assert len(rare) > 12
    assert not any(picture.nodes[k].whole for k in rare)
    assert all(picture.nodes[k].box is not None for k in rare)
    assert all(sum(k in arrow.pair for arrow in picture.arrows) <= 1 for k in rare)
    assert picture.rare[0] == 60


def test_traffic_that_cannot_be_worked_out_is_of_the_first_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AnalysisError("too close to closed")

    monkeypatch.setattr(traffic_module, "Solver", refuse)
    chain = Chain.from_matrix([[0.5]], ["a"], stop=[0.5])
    assert any("width: messages of the first 200 steps of a run" in text for text in texts(draw(chain).svg))
    assert traffic(chain).events == pytest.approx([2.0])


def test_a_dense_graph_loses_arrows_only() -> None:
    names = [f"n{k}" for k in range(12)]
    svg = draw(Graph.of([Arrow(a, "#", b) for a in names for b in names if a < b][:60])).svg
    assert "left out" not in svg
    graph = Graph.of([Arrow(a, "#", b) for a in names for b in names])
    assert any("left out: 84 arrows with the least arrows" in t for t in texts(draw(graph).svg))
    chain = Chain.from_matrix(np.full((12, 12), 0.075), names, stop=np.full(12, 0.1))
    said = next(t for t in texts(draw(chain).svg) if "left out" in t)
    assert said == f"left out: 84 arrows with the least traffic ({percent(84 / 144)} of all messages)"


def test_loops_that_are_nested_too_deep_are_said() -> None:
    n = 9
    arrows = [Arrow(f"n{k}", "#", f"n{k + 1}") for k in range(n)]
    arrows += [Arrow(f"n{n}", "#", f"n{k}") for k in range(n)]
    shown = texts(draw(Graph.of([Arrow("in", "#", "n0"), *arrows])).svg)
    assert sum(text.startswith("loop n") for text in shown) == 4
    assert any("5 loops nested deeper: no box" in text for text in shown)


def test_a_picture_of_a_large_chain_shows_its_foremost_nodes() -> None:
    n = 5000
    rows = np.arange(n - 1)
    P = sparse.csr_array((np.full(n - 1, 0.999), (rows, rows + 1)), shape=(n, n)).tolil()
    P[10, 3] = 0.0005
    P = P.tocsr()
    chain = Chain.from_matrix(P, stop=1 - np.asarray(P.sum(axis=1)).ravel(), start="0")
    shown = texts(draw(chain).svg)
    assert "loop 3" in shown
    assert len([text for text in shown if text.isdigit()]) == 40


def test_boxes_that_defeat_one_layout_get_another(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = layout.laid_out

    def fails(dot: str, *options: str) -> bytes:
        if "newrank" not in dot:
            raise OutputError("trouble in init_rank")
        return plain(dot, *options)

    monkeypatch.setattr(layout, "laid_out", fails)
    assert "newrank=true" in draw(JOBS).dot


def test_a_long_graph_runs_down() -> None:
    assert "rankdir=TB" in draw(line_of(30)).dot
    assert "rankdir=LR" in draw(line_of(4)).dot


def test_names_that_a_png_has_no_letters_for_are_numbers_there() -> None:
    dot = 'digraph { a [label="用户 é"]; }'
    assert layout._rare.sub(layout._escaped, dot) == 'digraph { a [label="\\\\u7528\\\\u6237 é"]; }'


def test_long_names_are_whole_in_the_tooltip() -> None:
    name = "a very long name of a node that goes on and on"
    svg = draw(Graph.of([Arrow(name, "k" * 60, name)])).svg
    assert name not in texts(svg)
    assert any("…" in text for text in texts(svg))
    assert name in texts(svg, "title")
    assert f"{name} -> {name}: {'k' * 60}" in texts(svg, "title")
    assert len(draw(Graph.of([], ["x" * 10_000_000])).dot) < 2000


@given(st.lists(st.text(min_size=1, max_size=8) | st.sampled_from(["\\N", "&lt;", "<b>", '"', "a\nb", "\\", "\0"])))
@settings(max_examples=30, deadline=None)
def test_any_name_is_drawn_as_it_is(names: list[str]) -> None:
    graph = Graph.of([Arrow(a, b, a) for a, b in zip(names, reversed(names), strict=True)])
    shown = texts(draw(graph).svg)
    for name in graph.nodes:
        if name.isprintable() and not name.isspace():
            assert any(name.split() == text.split() for text in shown)


def test_the_picture_fits_a_page_and_is_the_same_each_time() -> None:
    drawing = draw(ORDERS)
    assert drawing == draw(ORDERS)
    assert drawing._repr_svg_() is drawing.svg
    assert drawing.svg.startswith('<svg style="max-width:100%;height:auto"')
    assert "viewBox=" in drawing.svg
    assert not re.search(r"<script|<image|href=|@import|<!--|<\?xml", drawing.svg)


def test_an_empty_graph() -> None:
    assert "<svg" in draw(Graph(())).svg


def test_saving(tmp_path: Path) -> None:
    drawing = draw(ORDERS)
    for name, head in (("a.svg", b"<svg"), ("a.PNG", b"\x89PNG"), ("a.dot", b"digraph")):
        drawing.save(tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(head)
    with pytest.raises(OutputError, match=r"must end in \.svg, \.png or \.dot"):
        drawing.save(tmp_path / "a.pdf")
    with pytest.raises(OutputError, match="No such file"):
        drawing.save(tmp_path / "nowhere" / "a.svg")


def test_a_layout_that_is_missing_or_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout.shutil, "which", lambda *a, **k: None)
    with pytest.raises(OutputError, match="missing: pip install graphviz-pure"):
        draw(ORDERS)
    monkeypatch.undo()
    with pytest.raises(OutputError, match=r"failed: .*syntax error"):
        layout.laid_out("digraph {", "svg")
