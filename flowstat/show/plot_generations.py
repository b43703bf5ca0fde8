"""The messages of a run, generation by generation."""

from __future__ import annotations

from math import isfinite
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from flowstat.analyze.generations import Generations
from flowstat.analyze.generations import generations as find_generations
from flowstat.analyze.offspring import Source
from flowstat.errors import OutputError
from flowstat.show.figures import SMALL, Plot, fonts, plain_axes
from flowstat.show.looks import HUES, INK, brief, tint

__all__ = ["plot_generations"]

GROWN = 10
"""From how many times the first generation on the scale is logarithmic, if there are more and more."""


def plot_generations(source: Source | Generations, horizon: int = 20) -> Figure:
    """Draw how many messages a run has in each generation, and whether there are any.

    Above, the mean with a band of one standard deviation to each side (not below 0), on a logarithmic scale if messages
    multiply: if the last generation drawn is the largest, and 10 times as large as the first; below, the share of runs
    that are still alive.

    Parameters
    ----------
    source
        What `generations` takes: a chain, counts or a graph; or what it found.
    horizon
        The last generation, if they are yet to be found.

    Returns
    -------
    matplotlib.figure.Figure
        `save` writes .svg, .png or .pdf, the same bytes each time.

    Raises
    ------
    OutputError
        If there are no generations to draw.
    AnalysisError, ChainError
        As `generations`.

    Examples
    --------
    >>> from flowstat.estimate.counts import Counts
    >>> figure = plot_generations(Counts({("a", "a a"): 1, ("a", ""): 3}, {"a": 1}), horizon=4)
    >>> [float(y) for y in figure.axes[0].lines[0].get_ydata()]
    [1.0, 0.5, 0.25, 0.125, 0.0625]
    """
    found = source if isinstance(source, Generations) else find_generations(source, horizon=horizon)
    if not found.generations:
        raise OutputError("there are no generations to draw")
    k = np.array([g.generation for g in found.generations])
    mean = np.array([g.messages for g in found.generations])
    deviation = np.array([g.deviation if isfinite(g.deviation) else 0.0 for g in found.generations])
    alive = np.array([min(1.0, max(0.0, g.alive)) for g in found.generations])
    multiplies = bool(mean[-1] == mean.max() and mean[-1] >= GROWN * max(mean[0], 1e-300))
    figure = Plot(7.0, 5.4)
    above = figure.add_axes((0.12, 0.38, 0.85, 0.54))
    below = figure.add_axes((0.12, 0.1, 0.85, 0.2), sharex=above)
    low, high = np.maximum(mean - deviation, 0.0), mean + deviation
    if multiplies:
        floor = float(mean[mean > 0].min()) / 10
        low = np.maximum(low, floor)
        above.set_yscale("log")
        above.set_ylim(floor, 2 * float(high.max()))
    else:
        above.set_ylim(0, 1.08 * float(high.max()))
    above.fill_between(k, low, high, color=tint(HUES[0], 0.18), linewidth=0)
    above.plot(k, mean, "-o", color=HUES[0], linewidth=1.8, markersize=3.5, clip_on=False)
    largest = int(mean.argmax())
    total = float(mean.sum())
    title = f"Messages by generation, 0 to {k[-1]}: {brief(total, 4)} in all" + " (log scale)" * multiplies
    plain_axes(above, title, "", "messages a run: mean ± deviation")
    words = f"mean {brief(mean[largest])}"
    near: dict[str, Any] = {"textcoords": "offset points", "size": SMALL, "color": INK, "annotation_clip": False}
    side = "right" if largest > len(k) // 2 else "left"
    above.annotate(words, (k[largest], mean[largest]), (-6 if side == "right" else 6, 5), ha=side, **near, **fonts())
    below.fill_between(k, alive, color=tint(HUES[2], 0.18), linewidth=0)
    below.plot(k, alive, "-o", color=HUES[2], linewidth=1.8, markersize=3.5, clip_on=False)
    below.set_ylim(0, 1)
    below.yaxis.set_major_formatter(PercentFormatter(1.0))
    plain_axes(below, "", "generation", "runs still alive")
    last = f"{100 * alive[-1]:.3g}%"
    below.annotate(last, (k[-1], alive[-1]), (-4, 6), ha="right", **near, **fonts())
    below.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    above.set_xlim(0, max(1, int(k[-1])))
    above.tick_params(labelbottom=False)
    return figure
