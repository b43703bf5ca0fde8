"""A graph or chain as a picture: its loops coloured and nested, laid out by Graphviz, the same on every machine."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from flowstat.analyze.loop_forest import loop_forest
from flowstat.errors import OutputError
from flowstat.read.dot import percent
from flowstat.read.graph import Graph
from flowstat.read.words import shown
from flowstat.show.captions import legend, tips
from flowstat.show.layout import Drawing, drawing
from flowstat.show.looks import GREY, INK, PALE, hue, shortened, tint
from flowstat.show.picture import DrawnArrow, DrawnNode, Picture
from flowstat.show.pictured import picture_of

if TYPE_CHECKING:
    from flowstat.estimate.chain import Chain

__all__ = ["Drawing", "draw"]

NAME, LABEL, KEYS = 28, 22, 3
"""How much of a name, of a key, and how many of an arrow's labels a picture shows; tooltips have the whole."""

LEAST_STOP = 0.0005
"""A share of events that stop is shown from here on: a prior alone leaves a trace of it everywhere."""

THIN, THICK = 0.6, 6.0
"""How wide arrows are drawn, in points: in proportion to their traffic, but not below the first."""

EVEN = 1.1

_DEFAULTS = (
    'graph [nodesep=0.28, ranksep=0.45, bgcolor=white, fontname="Helvetica", fontsize=9, '
    f'fontcolor="{GREY}", labelloc=b, labeljust=l];',
    f'node [shape=box, style="rounded,filled", fillcolor="#ffffff", color="{GREY}", fontcolor="{INK}", '
    'fontname="Helvetica", fontsize=11, height=0.32, width=0.4, margin="0.13,0.06"];',
    f'edge [color="{GREY}", fontcolor="{INK}", fontname="Helvetica", fontsize=8.5, arrowsize=0.7];',
)


def draw(graph_or_chain: Graph | Chain, *, highlight: Sequence[str] = (), nodes: int | None = None) -> Drawing:
    """Draw a graph, or a chain with its shares and traffic.

    Runs start at nodes with a bold border; a node where runs stop says how often. An arrow carries its key and share,
    and in a chain it is as wide as it is travelled: by the messages that a run sends along it on average, in a closed
    class by its stationary flow. Each loop has a colour, and those of several nodes a box named by the header, nested
    as the loops are (`loops`), with the mean rounds of runs that go round and the gain; of chains of more than 2,000
    nodes boxes tell only where loops are. Boxes of external programs are dashed.

    Of many nodes, those with the most traffic (in a graph: with the most arrows) are shown by their names. The others
    of each box are one grey node, and what flows in and out of them flows in and out of it; of those outside of boxes,
    and where such a node would have more than 12 arrows, the ones that a node sends to are one, and the ones that it
    gets from. The picture says how many they are in all and which share of all events they have.

    Parameters
    ----------
    graph_or_chain
        What to draw.
    highlight
        Nodes of a path or cycle, in order: they and the arrows from each to the next stand out.
    nodes
        How many are shown by their names, at least 1; highlighted ones in any case. If not given, all of up to 60, and
        40 of more.

    Raises
    ------
    OutputError
        If a highlighted node is not there, `nodes` is less than 1, or the layout program is missing or fails.

    Notes
    -----
    Cost: that of `visits`, and up to 2,000 nodes that of `loops`; the layout is of what is shown only.

    Examples
    --------
    >>> from flowstat.read.native import parse_native
    >>> drawing = draw(parse_native("order -> pay; pay/retry -> pay @0.2;"), highlight=["pay", "pay"])
    >>> "retry" in drawing.svg
    True
    """
    if nodes is not None and nodes < 1:
        raise OutputError(f"at least one node is drawn, not {nodes}")
    names = graph_or_chain.nodes if isinstance(graph_or_chain, Graph) else graph_or_chain.names
    position = {name: k for k, name in enumerate(names)} if highlight else {}
    for name in highlight:
        if name not in position:
            raise OutputError(f"no node is called {shown(name)!r}: it can't be highlighted")
    path = [position[name] for name in highlight]
    picture = picture_of(graph_or_chain, nodes, path, frozenset(pairwise(path)))
    steps = [picture.index[name] for name in highlight]
    return drawing(lambda down: "".join(f"  {line}\n" for line in _lines(picture, steps, down)), tips(picture))


def _lines(picture: Picture, path: Sequence[int], down: bool) -> Iterator[str]:
    """Yield the picture's statements in DOT."""
    yield from _DEFAULTS
    steps = set(pairwise(path))
    colours = _colours(picture)
    said = legend(picture)
    if said:
        # A large picture is looked at from afar first.
        size = max(9, len(picture.nodes) / 6)
        yield f"graph [label={_lined(said)}, fontsize={size:.3g}];"
    yield from _nested(picture, None, colours, set(path))
    loop, back = _loop_of(picture), _back(picture)
    for k, arrow in enumerate(picture.arrows):
        inside = loop.get(arrow.pair)
        colour = GREY if inside is None or arrow.share == 0 else colours[inside]
        width = EVEN if arrow.width is None else max(THIN, THICK * arrow.width)
        ink = INK
        if steps:
            width, colour, ink = (
                (max(2.4, width), colour if colour != GREY else INK, INK)
                if arrow.pair in steps
                else (min(1.2, width), PALE, GREY)
            )
        attributes = {"id": f"a{k}", "penwidth": f"{width:.2f}", "color": f'"{colour}"', "fontcolor": f'"{ink}"'}
        texts = _written(arrow)
        if texts:
            # A space on each side keeps the text off the next line, and more of it off a thick one.
            space = " " * (1 + int(width / 3) * down)
            attributes["label"] = _label([f"{space}{text} " for text in texts] + [" "] * (width > 2.5 and not down))
        if width > 2:
            attributes["arrowsize"] = f"{0.7 / (1 + 0.12 * (width - 2)):.2f}"
        if arrow.undeclared:
            attributes["style"] = "dotted"
        ends = (arrow.source, arrow.target)
        if arrow.pair in back:
            # The layout sees no cycle then, and what leads on leads one way.
            ends, attributes["dir"] = (arrow.target, arrow.source), "back"
        yield f"n{ends[0]} -> n{ends[1]}{_attributes(attributes)};"
    for k, component in enumerate(picture.components):
        label = shortened(component.command, NAME)
        yield f'c{k} [id=c{k}, label={_label([label])}, style=dashed, fontsize=9, fontcolor="{GREY}", height=0.24];'
        dashed = "style=dashed, penwidth=0.9, arrowsize=0.55"
        if component.owner is not None:
            yield f"n{component.owner} -> c{k} [{dashed}];"
        for target, key in component.routes:
            yield f"c{k} -> n{target} [{dashed}, label={_label([shortened(key, LABEL)])}];"


def _nested(picture: Picture, within: int | None, colours: Sequence[str], path: set[int]) -> Iterator[str]:
    """Yield the nodes right within a box, and the boxes within it with theirs."""
    used = {end for arrow in picture.arrows for end in arrow.pair}
    for k, node in enumerate(picture.nodes):
        if node.box == within and (k in used or not node.rare):
            yield _node(k, node, k in path)
    for k, box in enumerate(picture.boxes):
        if box.parent != within or not box.boxed:
            continue
        colour = colours[k]
        yield f"subgraph cluster_{k} {{"
        yield (
            f'id=b{k}; label={_label([box.label])}; style="rounded,filled"; fillcolor="{tint(colour, 0.08)}"; '
            f'color="{tint(colour, 0.6)}"; fontcolor="{INK}"; fontsize=9.5; labelloc=t; labeljust=l; margin=10;'
        )
        yield from _nested(picture, k, colours, path)
        yield "}"


def _node(k: int, node: DrawnNode, on_path: bool) -> str:
    texts = [node.name if node.rare else shortened(node.name, NAME)]
    if node.rare and node.events is not None and node.whole:
        texts.append(f"{percent(node.share)} of events")
    if not node.rare and node.stop >= LEAST_STOP:
        texts.append(f"stops {percent(node.stop)}")
    attributes = {"id": f"n{k}", "label": _label(texts)} | _room(texts)
    if node.stop >= 0.5:
        attributes["fillcolor"] = '"#e6eaed"'
    if node.rare:
        attributes |= {"fillcolor": '"#eceff1"', "style": '"filled,dashed"', "fontcolor": f'"{GREY}"', "fontsize": "9"}
        attributes |= {"height": "0.2", "margin": '"0.06,0.03"', "color": f'"{PALE}"'}
    elif node.start > 0:
        attributes |= {"penwidth": "2.6", "color": f'"{INK}"'}
    if on_path:
        attributes["fillcolor"] = '"#fff1b8"'
    return f"n{k}{_attributes(attributes)};"


def _written(arrow: DrawnArrow) -> list[str]:
    """Return the lines at an arrow: its keys and its share."""
    texts = [shortened(text, LABEL) for text in arrow.keys[:KEYS]]
    if len(arrow.keys) > KEYS:
        texts.append(f"+{len(arrow.keys) - KEYS} more")
    if arrow.share is not None and not arrow.apart:
        texts = ["  ".join(filter(None, [", ".join(texts), percent(arrow.share)]))]
    return texts


def _colours(picture: Picture) -> list[str]:
    """Return the colour of each loop, in the order in which they are told."""
    return [hue(k) for k in range(len(picture.boxes))]


def _inside(picture: Picture) -> list[set[int]]:
    """Return what is drawn of each loop."""
    inside = [set(box.members.tolist()) for box in picture.boxes]
    for k, node in enumerate(picture.nodes):
        box = node.box if node.rare else None
        while box is not None:
            inside[box].add(k)
            box = picture.boxes[box].parent
    return inside


def _loop_of(picture: Picture) -> dict[tuple[int, int], int]:
    """Return the innermost loop of each arrow that is within one."""
    found: dict[tuple[int, int], int] = {}
    for k, (box, members) in enumerate(zip(picture.boxes, _inside(picture), strict=True)):
        for arrow in picture.arrows:
            if {*arrow.pair} <= members and (box.boxed or arrow.source == arrow.target):
                found[arrow.pair] = k
    return found


def _back(picture: Picture) -> set[tuple[int, int]]:
    """Return the arrows that lead back to the header of a loop, as the picture is read from where runs start."""
    n = len(picture.nodes)
    inside = _inside(picture)
    headers = [(int(box.members[0]), members) for box, members in zip(picture.boxes, inside, strict=True) if box.boxed]
    found = {a.pair for a in picture.arrows for h, members in headers if a.target == h and a.source in members}
    # What is still a cycle is in loops without a box.
    pairs = [a.pair for a in picture.arrows if a.source != a.target and a.pair not in found]
    starts = np.array([node.start for node in picture.nodes])
    roots = np.flatnonzero(starts)[np.argsort(-starts[starts > 0], kind="stable")]
    rows, columns = np.array(pairs, np.int64).reshape(-1, 2).T
    forest = loop_forest(sparse.csr_array((np.ones(len(pairs)), (rows, columns)), shape=(n, n)), roots)
    for source, target in pairs:
        h = source
        while h >= 0 and h != target:
            h = int(forest.header[h])
        if h == target:
            found.add((source, target))
    return {pair for pair in found if pair[0] != pair[1]}


def _attributes(attributes: Mapping[str, str]) -> str:
    return " [" + ", ".join(f"{name}={value}" for name, value in attributes.items()) + "]"


def _room(texts: Sequence[str]) -> dict[str, str]:
    """Return the width of a box whose text the layout, which knows ASCII only, can't measure."""
    if all(text.isascii() for text in texts):
        return {}
    wide = max(sum(1.0 if unicodedata.east_asian_width(c) in "WF" else 0.58 for c in text) for text in texts)
    return {"width": f"{wide * 11 / 72 + 0.3:.2f}"}


def _label(texts: Sequence[str]) -> str:
    return '"' + "\\n".join(_quoted(text)[1:-1] for text in texts) + '"'


def _lined(texts: Sequence[str]) -> str:
    """Return lines of a legend as a DOT string, each to the left."""
    return '"' + "".join(_quoted(text)[1:-1] + "\\l" for text in texts) + '"'


def _quoted(text: str) -> str:
    """Return a text as a DOT string that is drawn as it is: no entity and no escape in it."""
    text = text.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
