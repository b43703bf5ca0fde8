"""What is said about a drawing: its legend, and tooltips that tell the whole."""

from __future__ import annotations

from flowstat.read.dot import percent
from flowstat.read.words import visible
from flowstat.results import counted, number
from flowstat.show.picture import Picture

__all__ = ["legend", "tips"]


def legend(picture: Picture) -> list[str]:
    """Return what the picture has to say, line by line."""
    signs = []
    if any(node.start > 0 and not node.rare for node in picture.nodes):
        signs.append("bold border: runs start")
    if picture.boxes:
        boxed = any(box.boxed for box in picture.boxes)
        signs.append("colour: a loop" + (", its box named by its header" if boxed else ""))
    if any(box.boxed and " rounds" in box.label for box in picture.boxes):
        signs.append("rounds: of runs that go round")
    if any(arrow.undeclared for arrow in picture.arrows):
        signs.append("dotted: not in the graph file")
    if picture.unit:
        signs.append(picture.unit)
    lines = [" · ".join(signs)] if signs else []
    total, share = picture.rare
    if total:
        have = "arrows" if picture.by == "arrows" else "traffic"
        said = f"grey: {total:,} of {total + len(picture.index):,} nodes, those with the least {have}"
        if picture.by != "arrows":
            said += f" ({percent(share)} of all events)"
        lines.append(said + ", taken together; arrows among them are not shown")
    if picture.left_out[0]:
        count, part = picture.left_out
        said = f"left out: {counted(count, 'arrow')} with the least {picture.by}"
        lines.append(said + (f" ({percent(part)} of all messages)" if part is not None else ""))
    if picture.deep:
        lines.append(f"{counted(picture.deep, 'loop')} nested deeper: no box")
    return lines


def tips(picture: Picture) -> dict[str, str]:
    """Return the tooltip of each thing, by its id."""
    found = {}
    for k, node in enumerate(picture.nodes):
        events = (
            ""
            if node.events is None
            else f": {number(node.events)} events " + ("per event in the long run" if node.endless else "a run")
        )
        found[f"n{k}"] = visible(node.name) + events
    for k, arrow in enumerate(picture.arrows):
        ends = f"{visible(picture.nodes[arrow.source].name)} -> {visible(picture.nodes[arrow.target].name)}"
        share = "" if arrow.share is None or arrow.apart else f"{100 * arrow.share:.6g}%"
        messages = (
            ""
            if arrow.messages is None
            else f"{number(arrow.messages)} messages "
            + ("per event in the long run" if picture.nodes[arrow.source].endless else "a run")
        )
        more = "  ".join(filter(None, [", ".join(map(visible, arrow.keys)), share, messages]))
        found[f"a{k}"] = f"{ends}: {more}" if more else ends
    found |= {f"b{k}": visible(box.tip) for k, box in enumerate(picture.boxes)}
    return found | {f"c{k}": visible(c.command) for k, c in enumerate(picture.components)}
