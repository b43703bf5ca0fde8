"""A graph or chain as a picture: laid out by Graphviz, the same on every machine."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import sysconfig
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from flowstat.errors import OutputError
from flowstat.read.dot import percent
from flowstat.read.graph import Graph
from flowstat.read.words import shown, visible
from flowstat.show.picture import Picture, of_chain, of_graph

if TYPE_CHECKING:
    from flowstat.estimate.chain import Chain

__all__ = ["Drawing", "draw"]

LAYOUT = "graphviz-pure"
PATIENCE = 120
"""Seconds after which a layout is given up."""

NAME, LABEL, KEYS = 28, 22, 3
"""How much of a name, of a key, and how many of an arrow's labels a picture shows; tooltips have the whole."""

LEAST_STOP = 0.0005
"""A share of events that stop is shown from here on: a prior alone leaves a trace of it everywhere."""

INK, GREY, PALE = "#263238", "#78858c", "#d5dade"
HUES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9")
"""One for each loop, told apart by colour-blind readers too (after Okabe and Ito)."""

_DEFAULTS = (
    'graph [rankdir=LR, nodesep=0.28, ranksep=0.45, bgcolor=white, fontname="Helvetica", fontsize=9, '
    f'fontcolor="{GREY}", labelloc=b, labeljust=l];',
    f'node [shape=box, style="rounded,filled", fillcolor="#f7f9fa", color="{GREY}", fontcolor="{INK}", '
    'fontname="Helvetica", fontsize=11, height=0.32, width=0.4, margin="0.13,0.06"];',
    f'edge [color="{GREY}", fontcolor="{INK}", fontname="Helvetica", fontsize=8.5, arrowsize=0.7];',
)
_head = re.compile(r"<svg\b[^>]*>")
_title = re.compile(r"<title>(.*?)</title>\s*", re.DOTALL)


@dataclass(frozen=True)
class Drawing:
    """A picture; a notebook shows it.

    Attributes
    ----------
    svg
        One `<svg>` element, which a page can hold as it is; it needs no fonts, scripts or other files.
    dot
        What the layout was made from.
    """

    svg: str = field(repr=False)
    dot: str = field(repr=False)

    def _repr_svg_(self) -> str:
        return self.svg

    def save(self, path: str | Path) -> None:
        """Write the picture as `.svg`, `.png` or `.dot`, as the name ends.

        Raises
        ------
        OutputError
            For another ending, or a place that can't be written.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix not in (".svg", ".png", ".dot"):
            raise OutputError(f"can't draw to {path}: its name must end in .svg, .png or .dot")
        if suffix == ".png":
            data = _lay_out(self.dot, "png", "-Gdpi=160")
        else:
            data = (self.svg if suffix == ".svg" else self.dot).encode()
        try:
            path.write_bytes(data)
        except OSError as error:
            raise OutputError(f"can't draw to {path}: {error.strerror or error}") from None


def draw(graph_or_chain: Graph | Chain, *, highlight: Sequence[str] = ()) -> Drawing:
    """Draw a graph, or a chain with its shares.

    Runs start at nodes with a bold border; a node where runs stop says how often. An arrow is as thick as
    its share, and carries its key and share. Each loop (a strongly connected class with a cycle) has a
    colour. Components are dashed boxes. Of more than 200 nodes or 300 arrows, those with the most traffic
    (in a graph: with the most arrows) are drawn, and the picture says how many are left out.

    Parameters
    ----------
    graph_or_chain
        What to draw.
    highlight
        Nodes of a path or cycle, in order: they and the arrows from each to the next stand out.

    Raises
    ------
    OutputError
        If a highlighted node is not there, or the layout program is missing or fails.

    Examples
    --------
    >>> from flowstat.read.native import parse_native
    >>> drawing = draw(parse_native("order -> pay; pay/retry -> pay @0.2;"), highlight=["pay", "pay"])
    >>> "retry" in drawing.svg
    True
    """
    whole = of_graph(graph_or_chain) if isinstance(graph_or_chain, Graph) else of_chain(graph_or_chain)
    index = {node.name: k for k, node in enumerate(whole.nodes)}
    for name in highlight:
        if name not in index:
            raise OutputError(f"no node is called {shown(name)!r}: it can't be highlighted")
    path = [index[name] for name in highlight]
    picture = whole.reduced(frozenset(path), frozenset(pairwise(path)))
    dot = "digraph {\n" + "".join(f"  {line}\n" for line in _lines(picture, path)) + "}\n"
    return Drawing(_clean(_lay_out(dot, "svg").decode(), _tips(picture)), dot)


def _lines(picture: Picture, path: Sequence[int]) -> Iterator[str]:
    """Yield the picture's statements in DOT."""
    yield from _DEFAULTS
    steps = set(pairwise(path))
    legend = list(_legend(picture))
    if legend:
        # A large picture is looked at from afar first.
        size = max(9, len(picture.kept) / 6)
        yield f"graph [label={_quoted(' · '.join(legend))}, fontsize={size:.3g}];"
    for k in picture.kept:
        node = picture.nodes[k]
        texts = [_short(node.name, NAME)]
        if node.stop >= LEAST_STOP:
            texts.append(f"stops {percent(node.stop)}")
        attributes = {"label": _label(texts)} | _room(texts)
        if node.stop >= LEAST_STOP:
            attributes["fillcolor"] = '"#e6eaed"'
        if node.start > 0:
            attributes |= {"penwidth": "2.6", "color": f'"{INK}"'}
        if k in path:
            attributes["fillcolor"] = '"#fff1b8"'
        yield f"n{k}{_attributes(attributes)};"
    for arrow in picture.arrows:
        hue = picture.loops.get(arrow.pair)
        colour = GREY if hue is None else HUES[hue % len(HUES)]
        thickness = 1.1 if arrow.share is None else 0.6 + 2 * arrow.share
        texts = [_short(text, LABEL) for text in arrow.keys[:KEYS]]
        if len(arrow.keys) > KEYS:
            texts.append(f"+{len(arrow.keys) - KEYS} more")
        if arrow.share is not None and not arrow.apart:
            texts = [("  ".join([", ".join(texts), percent(arrow.share)])).strip()]
        ink = INK
        if steps:
            thickness, colour, ink = (
                (max(2.4, thickness), colour if hue is not None else INK, INK)
                if arrow.pair in steps
                else (min(1.2, thickness), PALE, GREY)
            )
        attributes = {"penwidth": f"{thickness:.2f}", "color": f'"{colour}"', "fontcolor": f'"{ink}"'}
        if texts:
            # A space on each side keeps the text off the next line.
            attributes["label"] = _label([f" {text} " for text in texts])
        if arrow.undeclared:
            attributes["style"] = "dotted"
        yield f"n{arrow.source} -> n{arrow.target}{_attributes(attributes)};"
    shown_nodes = set(picture.kept)
    for k, component in enumerate(picture.components):
        ends = [t for t in (component.owner, *(target for target, _ in component.routes)) if t is not None]
        if ends and not shown_nodes.intersection(ends):
            continue
        label = _short(component.command, NAME)
        yield f'c{k} [label={_label([label])}, style=dashed, fontsize=9, fontcolor="{GREY}", height=0.24];'
        dashed = "style=dashed, penwidth=0.9, arrowsize=0.55"
        if component.owner in shown_nodes:
            yield f"n{component.owner} -> c{k} [{dashed}];"
        for target, key in component.routes:
            if target in shown_nodes:
                yield f"c{k} -> n{target} [{dashed}, label={_label([_short(key, LABEL)])}];"


def _legend(picture: Picture) -> Iterator[str]:
    if any(picture.nodes[k].start > 0 for k in picture.kept):
        yield "bold border: runs start"
    if any(arrow.pair in picture.loops for arrow in picture.arrows):
        yield "colour: a loop"
    if any(arrow.undeclared for arrow in picture.arrows):
        yield "dotted: not in the graph file"
    if picture.left_out != (0, 0):
        nodes, arrows = picture.left_out
        yield f"left out: {nodes} nodes and {arrows} arrows, those with the least {picture.by}"


def _tips(picture: Picture) -> dict[str, str]:
    """Return the tooltip of each thing, by the title that the layout gives it."""
    tips = {f"n{k}": visible(node.name) for k, node in enumerate(picture.nodes)}
    for arrow in picture.arrows:
        ends = f"{visible(picture.nodes[arrow.source].name)} -> {visible(picture.nodes[arrow.target].name)}"
        share = "" if arrow.share is None or arrow.apart else f"{100 * arrow.share:.6g}%"
        more = "  ".join(filter(None, [", ".join(map(visible, arrow.keys)), share]))
        tips[f"n{arrow.source}->n{arrow.target}"] = f"{ends}: {more}" if more else ends
    return tips | {f"c{k}": visible(c.command) for k, c in enumerate(picture.components)}


def _clean(svg: str, tips: Mapping[str, str]) -> str:
    """Return the bare `<svg>` element: sized to its place, with tooltips that say what a thing is."""
    head = _head.search(svg)
    if head is None:
        raise OutputError(f"{LAYOUT} made no SVG: reinstall it (pip install --force-reinstall {LAYOUT})")
    start = head[0].replace("<svg", '<svg style="max-width:100%;height:auto"', 1)

    def title(found: re.Match[str]) -> str:
        tip = tips.get(html.unescape(found[1]))
        return "" if tip is None else f"<title>{html.escape(tip)}</title>\n"

    body = re.sub(r"<!--.*?-->\s*", "", svg[head.end() :], flags=re.DOTALL)
    return start + _title.sub(title, body)


def _lay_out(dot: str, format: str, *options: str) -> bytes:
    program = shutil.which(LAYOUT, path=sysconfig.get_path("scripts")) or shutil.which(LAYOUT)
    if program is None:
        raise OutputError(f"the layout program {LAYOUT} is missing: pip install {LAYOUT}")
    try:
        done = subprocess.run(
            [program, f"-T{format}", *options], input=dot.encode(), capture_output=True, timeout=PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise OutputError(f"the layout program {LAYOUT} failed: {error}") from None
    if done.returncode or not done.stdout:
        said = done.stderr.decode(errors="replace").strip().partition("\n")[0]
        raise OutputError(f"the layout program {LAYOUT} failed: {said or f'exit code {done.returncode}'}")
    return done.stdout


def _attributes(attributes: Mapping[str, str]) -> str:
    return " [" + ", ".join(f"{name}={value}" for name, value in attributes.items()) + "]"


def _room(texts: Sequence[str]) -> dict[str, str]:
    """Return the width of a box whose text the layout, which knows ASCII only, can't measure."""
    if all(text.isascii() for text in texts):
        return {}
    wide = max(sum(1.0 if unicodedata.east_asian_width(c) in "WF" else 0.58 for c in text) for text in texts)
    return {"width": f"{wide * 11 / 72 + 0.3:.2f}"}


def _short(text: str, most: int) -> str:
    text = visible(text[: 2 * most]) + ("" if len(text) <= 2 * most else visible(text[-most:]))
    return text if len(text) <= most else f"{text[: most * 2 // 3]}…{text[-most // 4 :]}"


def _label(texts: Sequence[str]) -> str:
    return '"' + "\\n".join(_quoted(text)[1:-1] for text in texts) + '"'


def _quoted(text: str) -> str:
    """Return a text as a DOT string that is drawn as it is: no entity and no escape in it."""
    text = text.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
