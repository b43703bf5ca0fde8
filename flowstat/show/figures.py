"""Figures without any global state: the same bytes each time, text that fonts can draw, and how they are saved."""

from __future__ import annotations

from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib import font_manager, rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.textpath import TextPath

from flowstat.errors import OutputError
from flowstat.show.looks import GREY, INK, shortened
from flowstat.show.saving import save_picture

__all__ = ["SIZE", "SMALL", "Plot", "axes_of", "drawable", "fonts", "plain_axes", "wide"]

SIZE, SMALL = 9.0, 8.0
"""Of text, in points: nothing is smaller than the second."""

STYLE: Any = {"svg.hashsalt": "flowstat", "svg.fonttype": "path", "pdf.fonttype": 42}
"""Without it each file would have other ids, and text other fonts elsewhere."""

UNDATED = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}, ".png": {"Software": None}}


class Plot(Figure):
    """A matplotlib figure; a notebook shows it, whether or not pyplot is used there."""

    def __init__(self, width: float, height: float) -> None:
        super().__init__(figsize=(width, height), facecolor="white")
        FigureCanvasAgg(self)

    def _repr_png_(self) -> bytes:
        return self._bytes(".png")

    def _bytes(self, suffix: str) -> bytes:
        data = BytesIO()
        with rc_context(STYLE):
            self.savefig(
                data, format=suffix[1:], dpi=160, metadata=UNDATED[suffix], bbox_inches="tight", pad_inches=0.1
            )
        return data.getvalue()

    @property
    def svg(self) -> str:
        """The figure as SVG."""
        return self._bytes(".svg").decode()

    def save(self, path: str | Path) -> None:
        """Write the figure as `.svg`, `.png` or `.pdf`, as the name ends; the same figure gives the same bytes.

        Raises
        ------
        OutputError
            For another ending, or a place that can't be written.
        """
        save_picture(path, (".svg", ".png", ".pdf"), self._bytes)


def axes_of(
    ax: Axes | None, width: float, height: float, margins: tuple[float, float, float, float] = (0, 0, 0, 0)
) -> tuple[Figure, Axes]:
    """Return the axes to draw in with their figure: those given, or new ones of a size in inches.

    `margins` are left, bottom, right and top, in inches beside it.
    """
    if ax is None:
        left, bottom, right, top = margins
        across, up = left + width + right, bottom + height + top
        made = Plot(across, up)
        return made, made.add_axes((left / across, bottom / up, width / across, height / up))
    if not isinstance(ax, Axes):
        raise OutputError("ax is one of matplotlib's Axes, as figure.subplots() makes them")
    whole = ax.figure
    while not isinstance(whole, Figure):
        whole = whole.figure
    return whole, ax


def plain_axes(ax: Axes, title: str, x: str, y: str) -> None:
    """Give axes their words and a light frame."""
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("bottom", "left"):
        ax.spines[side].set_color(GREY)
    ax.tick_params(labelsize=SMALL, colors=INK, color=GREY, labelfontfamily="DejaVu Sans")
    font: dict[str, Any] = {"family": "DejaVu Sans", "color": INK}
    ax.set_title(title, loc="left", fontsize=SIZE + 1, pad=10, **font)
    ax.set_xlabel(x, fontsize=SIZE, **font)
    ax.set_ylabel(y, fontsize=SIZE, **font)


def fonts(*texts: str) -> dict[str, Any]:
    """Return how texts are drawn: in matplotlib's own font, with others for what it lacks, and no formulas."""
    family = ["DejaVu Sans"]
    for char in sorted({c for text in texts for c in text if ord(c) > 126}):
        name = _font_of(char)
        if name and name not in family:
            family.append(name)
    return {"family": family, "parse_math": False}


def drawable(text: str, most: int) -> str:
    """Return a name on one line of so many characters; what no font has is written as its number."""
    short = shortened(text, most)
    return "".join(c if ord(c) < 127 or _font_of(c) else c.encode("unicode_escape").decode() for c in short)


def wide(text: str, size: float = SIZE) -> float:
    """Return the width of a text in inches."""
    if not text.strip():
        return 0.0
    own = "".join(c if ord(c) < 127 or _font_of(c) == "DejaVu Sans" else "MM" for c in text)
    font = font_manager.FontProperties(family="DejaVu Sans")
    return float(TextPath((0, 0), own.replace("$", "S"), size=size, prop=font).get_extents().width) / 72


@cache
def _font_of(char: str) -> str:
    """Return the first font that has a character: matplotlib's own, else by name; empty if there is none."""
    own = font_manager.findfont("DejaVu Sans")
    if FT2Font(own).get_char_index(ord(char)):
        return "DejaVu Sans"
    for name, file in _others():
        try:
            if FT2Font(file).get_char_index(ord(char)):
                return name
        except (OSError, RuntimeError):
            continue
    return ""


@cache
def _others() -> list[tuple[str, str]]:
    found = {f.name: f.fname for f in sorted(font_manager.fontManager.ttflist, key=lambda f: (f.name, f.fname))[::-1]}
    return sorted((name, file) for name, file in found.items() if not name.startswith(("Last Resort", ".")))
