import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowstat.errors import OutputError
from flowstat.estimate.chain import Chain
from flowstat.read.graph import Arrow, Component, Graph, Route
from flowstat.read.native import parse_native
from flowstat.show import draw as drawing_module
from flowstat.show.draw import HUES, draw

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
    assert "bold border: runs start · colour: a loop" in shown
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
    widths = [float(w) for w in re.findall(r"-> n\d \[penwidth=([0-9.]+)", drawing.dot)]
    assert max(widths) > 2 * min(widths)
    assert "b -> c: 64.98%" in texts(drawing.svg, "title")


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
    assert found["pay -> pay"] == drawing_module.PALE
    with pytest.raises(OutputError, match="no node is called 'nowhere'"):
        draw(ORDERS, highlight=["nowhere"])


def test_a_large_chain_keeps_what_carries_the_most() -> None:
    svg = draw(line_of(300), highlight=["298", "299"]).svg
    names = {text for text in texts(svg) if text.isdigit()}
    assert len(names) == 200
    assert names == {str(k) for k in range(198)} | {"298", "299"}
    assert any("left out: 100 nodes and 101 arrows, those with the least traffic" in t for t in texts(svg))


def test_a_dense_graph_loses_arrows_only() -> None:
    names = [f"n{k}" for k in range(18)]
    svg = draw(Graph.of([Arrow(a, "#", b) for a in names for b in names if a < b])).svg
    assert "left out" not in svg
    graph = Graph.of([Arrow(a, "#", b) for a in names for b in names])
    assert any("left out: 0 nodes and 24 arrows, those with the least arrows" in t for t in texts(draw(graph).svg))


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
    monkeypatch.setattr(drawing_module.shutil, "which", lambda *a, **k: None)
    with pytest.raises(OutputError, match="missing: pip install graphviz-pure"):
        draw(ORDERS)
    monkeypatch.undo()
    with pytest.raises(OutputError, match=r"failed: .*syntax error"):
        drawing_module._lay_out("digraph {", "svg")
