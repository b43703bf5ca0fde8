"""The likely flows as ribbons, as wide as they are probable."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from matplotlib.patheffects import withStroke

from flowstat.analyze.flows import Flow, Flows
from flowstat.analyze.flows import flows as find_flows
from flowstat.errors import OutputError
from flowstat.estimate.chain import Chain
from flowstat.read.dot import percent
from flowstat.show.figures import SIZE, SMALL, axes_of, drawable, fonts, wide
from flowstat.show.looks import GREY, HUES, INK, PALE, brief, tint
from flowstat.show.ribbons import Block, Ribbons, ribbons
from flowstat.show.routes import Key

__all__ = ["plot_flows"]

OTHER: Key = ("other", "")
GAP, BAR = 1.5, 0.1
"""Inches between columns, and how wide a block is."""

LITTLE = 1e-9
"""A rest of less than this is rounding, not other flows."""

NAME = 18

FEW = 0.005
"""Fewer rounds than this are not told."""


def plot_flows(chain_or_flows: Chain | Flows, top: int = 10, *, ax: Axes | None = None) -> Figure:
    """Draw the likely flows from their starts to their outcomes.

    A flow is what is left of a run when its loops are erased (`flows`). Each is a ribbon as wide as it is probable,
    coloured by its outcome, through the nodes that it passes; the share of a node is that of all runs whose flow is
    drawn and passes it. What other flows have together is a grey ribbon. A turning arrow at an outcome tells how often
    runs with these flows come back on average to nodes on their way. Where there are more than eight columns, nodes
    that all flows drawn pass one after the other are one block.

    Parameters
    ----------
    chain_or_flows
        A chain, or what `flows` found.
    top
        How many flows are drawn at most, the most probable ones; at least 1.
    ax
        Where to draw; a new figure if not given.

    Returns
    -------
    matplotlib.figure.Figure
        In a new one, `save` writes .svg, .png or .pdf, the same bytes each time.

    Raises
    ------
    OutputError
        If there is nothing to draw, or it is neither a chain nor flows.
    AnalysisError
        As `flows`.

    Examples
    --------
    >>> chain = Chain.from_matrix([[0.5, 0.25], [0, 0]], ["pay", "ship"], "pay", stop=[0.25, 1])
    >>> len(plot_flows(chain).axes)
    1
    """
    if top < 1:
        raise OutputError(f"at least one flow is drawn, not {top}")
    if isinstance(chain_or_flows, Chain):
        found = find_flows(chain_or_flows, top, intervals=None)
    elif isinstance(chain_or_flows, Flows):
        found = chain_or_flows
    else:
        raise OutputError("give a chain, or what flows(chain) found")
    listed = [flow for flow in found.flows[:top] if flow.probability > 0]
    if not listed:
        raise OutputError("there is no flow to draw: the search found none within its bound")
    covered = min(1.0, sum(flow.probability for flow in listed))
    rest = 1 - covered if 1 - covered > LITTLE + found.error_bound * len(listed) else 0.0
    passed = {name for flow in listed for name in (flow.nodes if flow.kind == "trap" else flow.nodes[:-1])}
    passed |= {flow.outcome for flow in listed if flow.nodes == (flow.outcome,)}
    paths = [_path(flow, passed) for flow in listed]
    weights = [flow.probability for flow in listed]
    if rest:
        paths.append([(OTHER[0], "from"), OTHER])
        weights.append(rest)
    made = ribbons(paths, weights, min(6.0, max(3.0, 0.28 * len(listed))), len(listed))
    left, right = 0.15, 0.3 + max(wide(text) for text in _ends(made, listed).values())
    width = left + GAP * (made.columns - 1) + BAR + right
    figure, axes = axes_of(ax, width, made.height + 0.95)
    axes.set_xlim(-left, width - left)
    axes.set_ylim(made.height + 0.35, -0.6)
    axes.set_axis_off()
    _ribbons(axes, made, listed)
    _names(axes, made, listed)
    runs = "lineages" if found.fans_out else "runs"
    flows_ = f"{len(listed):,} likely flow{'s' * (len(listed) > 1)}"
    axes.text(-left / 2, -0.38, f"{flows_}: {percent(covered)} of all {runs}", size=SIZE + 2, color=INK, **fonts())
    note = "loops are erased as they close"
    if any(flow.rounds >= FEW for flow in listed):
        note += "; ↻ mean rounds of loops on the way"
    axes.text(-left / 2, made.height + 0.22, note, size=SMALL, color=GREY, **fonts())
    return figure


def _path(flow: Flow, passed: set[str]) -> list[Key]:
    """Return what a flow passes; where it stops at a node that others pass, it has an end of its own."""
    path: list[Key] = [("node", name) for name in flow.nodes]
    if flow.kind == "trap":
        return [*(path or [("start", "start")]), ("trap", flow.outcome)]
    if flow.outcome in passed:
        return [*path, ("end", flow.outcome)]
    return path


def _colours(listed: list[Flow]) -> dict[tuple[str, str], str]:
    """Return the colour of each outcome: the most probable ones first; after six they come again, paler."""
    chance: dict[tuple[str, str], float] = {}
    for flow in listed:
        chance[flow.kind, flow.outcome] = chance.get((flow.kind, flow.outcome), 0.0) + flow.probability
    order = sorted(chance, key=lambda outcome: -chance[outcome])
    return {outcome: tint(HUES[k % 6], (0.55, 0.3)[k // 6 % 2]) for k, outcome in enumerate(order)}


def _ends(made: Ribbons, listed: list[Flow]) -> dict[int, str]:
    """Return what is said at the end of flows, by the block's place in the list."""
    said = {}
    for k, block in enumerate(made.blocks):
        if not block.last:
            continue
        if block.keys[0] == OTHER:
            said[k] = f"other flows  {percent(block.weight)}"
            continue
        kind, name = block.keys[0]
        text = f"{drawable(str(name), 32)}  {percent(min(1.0, block.weight))}"
        if kind == "end":
            text = f"stops at {text}"
        elif kind == "trap":
            text = f"never ends: {text}"
        rounds = sum(listed[f].rounds * listed[f].probability for f in block.flows) / block.weight
        said[k] = text + (f"  ↻ {brief(rounds, 2)}" if rounds >= FEW else "")
    return said


def _ribbons(axes: Axes, made: Ribbons, listed: list[Flow]) -> None:
    colours = _colours(listed)

    def colour(f: int) -> str:
        return PALE if f >= len(listed) else colours[listed[f].kind, listed[f].outcome]

    thick = made.scale
    weights = [flow.probability for flow in listed]
    other = next((b.weight for b in made.blocks if b.keys and b.keys[0] == OTHER), 0.0)
    weights.append(other)
    for ribbon in made.ribbons:
        x0, x1 = _right(ribbon.source), _left(ribbon.target)
        # Neighbours of one colour are one shape, so that no seam is seen.
        parts: list[tuple[str, float, float, float]] = []
        for f, here, there in ribbon.flows:
            wide_ = weights[f] * thick
            last = parts[-1] if parts else None
            if last and last[0] == colour(f) and abs(last[1] + last[3] - here) + abs(last[2] + last[3] - there) < 1e-9:
                parts[-1] = (last[0], last[1], last[2], last[3] + wide_)
            else:
                parts.append((colour(f), here, there, wide_))
        for fill, here, there, high in parts:
            axes.add_patch(PathPatch(_band(x0, x1, here, there, high), facecolor=fill, edgecolor="none", zorder=1))


def _band(x0: float, x1: float, here: float, there: float, high: float) -> Path:
    middle = (x0 + x1) / 2
    points = [(x0, here), (middle, here), (middle, there), (x1, there), (x1, there + high)]
    points += [(middle, there + high), (middle, here + high), (x0, here + high), (x0, here)]
    codes = [Path.MOVETO, *[Path.CURVE4] * 3, Path.LINETO, *[Path.CURVE4] * 3, Path.CLOSEPOLY]
    return Path(points, codes)


def _names(axes: Axes, made: Ribbons, listed: list[Flow]) -> None:
    ends = _ends(made, listed)
    halo = [withStroke(linewidth=2.5, foreground="white", alpha=0.85)]
    for k, block in enumerate(made.blocks):
        if not block.keys:
            continue
        grey = block.keys[0][0] == "other"
        x, high = _left(block), block.bottom - block.top
        fill = GREY if grey else INK
        axes.add_patch(Rectangle((x, block.top), BAR, high, facecolor=fill, edgecolor="none", zorder=3))
        if k in ends:
            middle, colour = (block.top + block.bottom) / 2, GREY if grey else INK
            axes.text(x + BAR + 0.08, middle, ends[k], size=SIZE, color=colour, va="center", **fonts(ends[k]))
        elif not grey:
            text = f"{_named(block)}  {percent(min(1.0, block.weight))}"
            axes.text(
                x,
                block.top - 0.05,
                text,
                size=SMALL,
                color=INK,
                va="bottom",
                path_effects=halo,
                zorder=4,
                **fonts(text),
            )


def _named(block: Block) -> str:
    """Return the name of a block: of several nodes the first one, and how many follow."""
    names = [str(name) for _, name in block.keys]
    if len(names) == 1:
        return drawable(names[0], NAME)
    return f"{drawable(names[0], 12)} → {len(names) - 1} more"


def _left(block: Block) -> float:
    return block.column * GAP + (0 if block.keys else BAR / 2)


def _right(block: Block) -> float:
    return block.column * GAP + (BAR if block.keys else BAR / 2)
