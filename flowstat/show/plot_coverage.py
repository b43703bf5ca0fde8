"""How much the first flows or cycles cover."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from flowstat.analyze.circulation import Circulation
from flowstat.analyze.cycles import Cycles
from flowstat.analyze.flows import Flows
from flowstat.analyze.flows import flows as find_flows
from flowstat.errors import OutputError
from flowstat.estimate.chain import Chain
from flowstat.read.dot import percent
from flowstat.show.figures import SIZE, SMALL, axes_of, fonts, plain_axes
from flowstat.show.looks import GREY, HUES, INK, tint

__all__ = ["covered", "plot_coverage"]

LEVEL = 0.9
"""The share that is marked where it is reached."""

ROUNDING = 1e-12


def plot_coverage(source: Chain | Flows | Cycles | Circulation, top: int = 100, *, ax: Axes | None = None) -> Figure:
    """Draw the share of all runs that the first flows cover, or that of all events on the first cycles.

    Parameters
    ----------
    source
        A chain, of which the flows are taken; or what `flows`, `cycles` or `circulation` found, in its order.
    top
        How many of them at most, at least 1.
    ax
        Where to draw; a new figure if not given.

    Returns
    -------
    matplotlib.figure.Figure
        With a mark where 90% are reached, if they are.

    Raises
    ------
    OutputError
        If there is nothing to draw, or what cycles of runs that may never end cover can't be told.
    AnalysisError
        As `flows`.

    Examples
    --------
    >>> chain = Chain.from_matrix([[0.5, 0.25], [0, 0]], ["pay", "ship"], "pay", stop=[0.25, 1])
    >>> covered(find_flows(chain))[0]
    [0.5, 1.0]
    >>> len(plot_coverage(chain).axes)
    1
    """
    if top < 1:
        raise OutputError(f"at least one is drawn, not {top}")
    found = find_flows(source, top, intervals=None) if isinstance(source, Chain) else source
    shares, things, whole = covered(found)
    shares = shares[:top]
    figure, axes = axes_of(ax, 6.0, 3.4, (0.75, 0.6, 0.8, 0.5))
    k = range(len(shares) + 1)
    axes.plot(k, [0.0, *shares], drawstyle="steps-post", color=HUES[0], linewidth=1.8, clip_on=False, zorder=3)
    axes.fill_between(k, [0.0, *shares], step="post", color=tint(HUES[0], 0.12), linewidth=0)
    axes.axhline(LEVEL, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    if len(shares) <= 40:
        axes.plot(k[1:], shares, "o", color=HUES[0], markersize=4, clip_on=False, zorder=4)
    reached = next((n + 1 for n, share in enumerate(shares) if share >= LEVEL - ROUNDING), None)
    if reached is None:
        said = f"{len(shares):,} {things[0] if len(shares) == 1 else things[1]} cover {percent(shares[-1])}"
    else:
        said = f"{percent(LEVEL)} by the first {things[0] if reached == 1 else f'{reached:,} {things[1]}'}"
        axes.plot([reached], [shares[reached - 1]], "o", color=HUES[1], markersize=8, clip_on=False, zorder=5)
        axes.plot([reached, reached], [0, shares[reached - 1]], color=HUES[1], linewidth=1, zorder=2)
    title = f"Coverage: {said}"
    plain_axes(axes, title, f"first {things[1]}, as listed", f"share of {whole}")
    axes.set_xlim(0, len(shares))
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    last = f"{len(shares):,}: {percent(shares[-1])}"
    right: dict[str, Any] = {"ha": "left", "va": "center", "color": INK, "size": SMALL}
    axes.annotate(
        last, (len(shares), shares[-1]), (8, 0), textcoords="offset points", annotation_clip=False, **right, **fonts()
    )
    axes.annotate(
        percent(LEVEL),
        (0, LEVEL),
        (4, 3),
        textcoords="offset points",
        color=GREY,
        size=min(SIZE, SMALL),
        **fonts(),
    )
    return figure


def covered(found: Flows | Cycles | Circulation) -> tuple[list[float], tuple[str, str], str]:
    """Return the share that the first 1, 2, ... cover; what one and several of them are called; and of what.

    Raises
    ------
    OutputError
        If there are none, or the share can't be told.
    """
    if isinstance(found, Flows):
        parts = [flow.probability for flow in found.flows]
        names, whole = ("flow", "flows"), "all lineages" if found.fans_out else "all runs"
    elif isinstance(found, Circulation):
        parts = [cycle.rate * len(cycle.nodes) for cycle in found.cycles]
        names, whole = ("cycle", "cycles"), "the events of the closed class"
    elif isinstance(found, Cycles):
        names, whole = ("cycle", "cycles"), "all events"
        if found.cycles and found.covered is None:
            raise OutputError(
                "runs may never end, or some traversals are not known: draw circulation(chain, node) of a closed class"
            )
        on = [(cycle.traversals or 0.0) * len(cycle.nodes) for cycle in found.cycles]
        total = sum(on)
        parts = [(found.covered or 0.0) * (each / total) if total else 0.0 for each in on]
    else:
        raise OutputError("give a chain, or what flows, cycles or circulation found")
    if not parts:
        raise OutputError(f"there are no {names[1]} to draw")
    return [min(1.0, share) for share in accumulate(parts)], names, whole
