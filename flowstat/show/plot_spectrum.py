"""The leading eigenvalues in the unit disc, each pair with the cycle that it comes from."""

from __future__ import annotations

from math import atan2, cos, hypot, inf, pi, sin
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from flowstat.analyze.perron import part_of
from flowstat.analyze.solve import Solver
from flowstat.analyze.spectrum import ClassSpectrum, Eigenvalue, Spectrum, class_name
from flowstat.analyze.spectrum import spectrum as find_spectrum
from flowstat.errors import OutputError
from flowstat.estimate.chain import Chain
from flowstat.read.dot import percent
from flowstat.show.figures import SIZE, SMALL, axes_of, drawable, fonts, wide
from flowstat.show.looks import GREY, INK, PALE, brief, hue, tint
from flowstat.show.turning import Turning, turning

__all__ = ["plot_spectrum"]

TOLD = 10
"""How many eigenvalues are told in words."""

FAINT = 0.05
"""A smaller modulus is gone after a step or two, and is not told."""

NODES = 5
"""How many nodes of a cycle are named."""


def plot_spectrum(chain: Chain, top: int = 20, *, ax: Axes | None = None) -> Figure:
    """Draw the leading eigenvalues in the unit disc.

    Of each class a colour. A pair of conjugates turns: what it stands for comes back every `2 pi / |arg|` steps. It is
    told with that period and the cycle that carries it: the one with the largest share in its imaginary part. By the
    decomposition of the class's long-run flow into cycles, those shares sum to 1 over all cycles (see
    `flowstat.show.turning`); the cycle is looked for among the 60 that are closed most often, and none is named that
    has less than a tenth. So is a negative eigenvalue, of period 2, by its real part. A dashed circle is the second
    modulus of the first class that has a gap and a second modulus above 0.05: the ring up to its root is the gap.

    Parameters
    ----------
    chain
        A chain.
    top
        How many eigenvalues at most (a pair counts once); at least 1.
    ax
        Where to draw; a new figure if not given.

    Returns
    -------
    matplotlib.figure.Figure
        In a new one, `save` writes .svg, .png or .pdf, the same bytes each time.

    Raises
    ------
    OutputError
        If it is no chain.
    AnalysisError
        As `spectrum`.

    Examples
    --------
    >>> ring = Chain.from_matrix([[0, 1, 0], [0, 0, 1], [1, 0, 0]], ["a", "b", "c"])
    >>> [text.get_text() for text in plot_spectrum(ring).axes[0].texts if "→" in text.get_text()]
    ['period 3: a → b → c → a (100%)']
    """
    if not isinstance(chain, Chain):
        raise OutputError("give a chain: the cycles of its eigenvalues are looked for in it")
    found = find_spectrum(chain, top)
    figure, axes = axes_of(ax, 4.2, 4.2)
    axes.set_aspect("equal")
    axes.set_xlim(-1.12, 1.12)
    axes.set_ylim(-1.12, 1.12)
    axes.set_axis_off()
    axes.text(-1.1, 1.12, "Leading eigenvalues", size=SIZE + 1, color=INK, va="top", **fonts())
    axes.add_patch(Circle((0, 0), 1, facecolor="#fafbfc", edgecolor=GREY, linewidth=1, zorder=0))
    axes.plot([-1, 1], [0, 0], color=PALE, linewidth=0.7, zorder=1)
    axes.plot([0, 0], [-1, 1], color=PALE, linewidth=0.7, zorder=1)
    for x, y, text in ((1.03, 0, "1"), (-1.03, 0, "−1"), (0, 1.04, "i"), (0, -1.04, "−i")):
        ha = "left" if x > 0 else "right" if x < 0 else "center"
        va = "center" if x else "bottom" if y > 0 else "top"
        axes.text(x, y, text, size=SMALL, color=GREY, ha=ha, va=va, **fonts())
    colours = {class_name(part.nodes): hue(k) for k, part in enumerate(found.classes)}
    told = _told(found, chain)
    dashed = _gap(axes, found)
    _points(axes, found, colours)
    _numbers(axes, [value for value, _ in told], colours)
    lines = [(f"{k}", colours[value.of], _said(value, cycle)) for k, (value, cycle) in enumerate(told, 1)]
    lines += [("●", colours[class_name(part.nodes)], _class(part)) for part in found.classes[:TOLD]]
    if len(found.classes) > TOLD:
        lines.append(("", GREY, f"and {len(found.classes) - TOLD:,} other classes"))
    if any(cycle for _, cycle in told):
        against = any(cycle.share > 1.0005 for _, cycle in told if cycle)
        more = " (above 100%: others turn against it)" if against else ""
        lines.append(("", GREY, f"in brackets: the share of the cycle in the turning{more}"))
    if dashed:
        lines.append(("", GREY, dashed))
    if not found.eigenvalues:
        lines.append(("", GREY, "no cycle: all eigenvalues are 0"))
    if found.more:
        lines.append(("", GREY, "there are others, not drawn"))
    y = 1.0
    for sign, colour, text in lines:
        axes.text(1.3, y, sign, size=SIZE, color=colour, weight="bold", va="top", ha="center", **fonts(sign))
        axes.text(1.4, y, text, size=SIZE, color=INK if sign else GREY, va="top", **fonts(text))
        y -= 0.13
    if ax is None:
        # The words are beside the disc, however many they are.
        width, height = (
            4.5 + max((wide(text) for *_, text in lines), default=0.0) + 0.3,
            max(4.2, 0.25 * len(lines) + 0.3),
        )
        figure.set_size_inches(width, height)
        axes.set_position((0.0, 1 - 4.2 / height, 4.2 / width, 4.2 / height))
    return figure


def _told(found: Spectrum, chain: Chain) -> list[tuple[Eigenvalue, Turning | None]]:
    """Return the eigenvalues that turn, the foremost ones, each with its cycle."""
    chosen = [e for e in found.eigenvalues if e.period is not None and e.modulus >= FAINT and not e.may_be_0][:TOLD]
    if not chosen:
        return []
    solver = Solver(chain.P, chain.stop)
    nodes = {class_name(part.nodes): part.nodes for part in found.classes}
    known: dict[int, Turning | None] = {}
    for name in dict.fromkeys(e.of for e in chosen):
        own = [k for k, e in enumerate(chosen) if e.of == name]
        part = part_of(solver, int(solver.label[chain.index[nodes[name][0]]]))
        values = [complex(chosen[k].real, chosen[k].imaginary) for k in own]
        known |= dict(zip(own, turning(part, nodes[name], values), strict=True))
    return [(e, known[k]) for k, e in enumerate(chosen)]


def _said(value: Eigenvalue, cycle: Turning | None) -> str:
    assert value.period is not None
    text = f"period {brief(value.period)}"
    if cycle is not None:
        names = [drawable(name, 16) for name in cycle.nodes]
        if len(names) > NODES:
            names = [*names[: NODES - 1], f"… {len(names) - NODES + 1} more …"]
        text += f": {' → '.join([*names, drawable(cycle.nodes[0], 16)])} ({percent(cycle.share)})"
    else:
        text += ": no one cycle"
    return text if value.relaxation == inf else f"{text}, fades in {brief(value.relaxation)} steps"


def _names(part: ClassSpectrum) -> str:
    names = ", ".join(drawable(name, 16) for name in part.nodes[:4])
    return f"{{{names}{f', … {len(part.nodes):,} nodes' if len(part.nodes) > 4 else ''}}}"


def _class(part: ClassSpectrum) -> str:
    text = _names(part)
    text += ": never ends" if part.kind == "closed" else f": root {brief(part.root, 4)}"
    if part.gap is not None and part.period == 1:
        return f"{text}, gap {brief(part.gap)}"
    return text if part.period < 2 else f"{text}, periodic ({part.period})"


def _gap(axes: Axes, found: Spectrum) -> str:
    """Draw the second modulus of the first class that has a gap and one that can be seen; say of which it is."""
    for k, part in enumerate(found.classes):
        if part.gap is not None and part.gap > 0 and part.root - part.gap >= FAINT:
            dashes: Any = {"fill": False, "linewidth": 1, "linestyle": (0, (4, 3))}
            axes.add_patch(Circle((0, 0), part.root - part.gap, edgecolor=tint(hue(k), 0.8), **dashes))
            return f"dashed: the second modulus of {_names(part)}; from there to its root is the gap"
    return ""


def _points(axes: Axes, found: Spectrum, colours: dict[str, str]) -> None:
    for value in found.eigenvalues:
        x, y = value.real, value.imaginary
        if y:
            axes.plot([x, x], [-y, y], color=tint(colours[value.of], 0.35), linewidth=0.8, zorder=2)
        for side in (y, -y) if y else (0.0,):
            axes.plot([x], [side], "o", color=colours[value.of], markersize=6, markeredgecolor="white", zorder=3)


def _numbers(axes: Axes, values: list[Eigenvalue], colours: dict[str, str]) -> None:
    """Write numbers next to eigenvalues: outwards, or turned away where another one stands."""
    taken = [(e.real, e.imaginary) for e in values]
    for k, value in enumerate(values, 1):
        angle = atan2(value.imaginary, value.real)
        free = []
        for turn in range(8):
            at = angle + (-1) ** turn * (turn + 1) // 2 * pi / 4
            x, y = value.real + 0.09 * cos(at), value.imaginary + 0.09 * sin(at)
            nearest = min(hypot(x - a, y - b) for a, b in taken)
            free.append((nearest < 0.075, turn, x, y))
        _, _, x, y = min(free)
        taken.append((x, y))
        place: dict[str, Any] = {"ha": "center", "va": "center", "zorder": 5, "weight": "bold"}
        axes.text(x, y, f"{k}", size=SMALL, color=colours[value.of], **place, **fonts())
