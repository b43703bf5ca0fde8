"""Pictures that Graphviz lays out: the same on every machine, as SVG that a page can hold."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flowstat.errors import OutputError
from flowstat.show.saving import save_picture

__all__ = ["Drawing", "drawing", "laid_out"]

LAYOUT = "graphviz-pure"
PATIENCE = 120
"""Seconds after which a layout is given up."""

_head = re.compile(r"<svg\b[^>]*>")
_title = re.compile(
    r'<g id="([^"]*)" class="(graph|cluster|node|edge)"([^>]*)>\s*(?:<title>.*?</title>\s*)?', re.DOTALL
)
_edge_text = re.compile(r"<text (?=[^>]*font-size=\"8.50\")")
_size = re.compile(r'width="([0-9.]+)pt" height="([0-9.]+)pt"')

_rare = re.compile("[^\\0-\\u04ff\\u1e00-\\u22ff]")

WIDE, HIGH = 900.0, 1200.0
"""How large a picture is, in points, before it would be made smaller to be looked at."""

HALO = 'paint-order="stroke" stroke="white" stroke-width="2.5" stroke-linejoin="round" stroke-opacity="0.85" '
"""Keeps the text at an arrow legible where it lies on a line."""


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
        """Write the picture as `.svg`, `.png` or `.dot`, as the name ends; letters that a PNG lacks are numbers there.

        Raises
        ------
        OutputError
            For another ending, or a place that can't be written.
        """
        save_picture(path, (".svg", ".png", ".dot"), self._bytes)

    def _bytes(self, suffix: str) -> bytes:
        if suffix == ".png":
            # Its own font has no other letters; a page has.
            return laid_out(_rare.sub(_escaped, self.dot), "png", "-Gdpi=160")
        return (self.svg if suffix == ".svg" else self.dot).encode()


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode().replace("\\", "\\\\")


def drawing(statements: Callable[[bool], str], tips: Mapping[str, str]) -> Drawing:
    """Return the picture of statements in DOT, with a tooltip for the things that have one, by their ids.

    It runs from left to right, or down, if it can be seen larger then: the statements are told whether it runs down.
    """
    best = None
    for direction in ("LR", "TB"):
        dot, svg = _directed(statements(direction == "TB"), direction)
        size = _size.search(svg)
        if size is None:
            raise OutputError(f"{LAYOUT} made no SVG: reinstall it (pip install --force-reinstall {LAYOUT})")
        shrunk = max(1.0, float(size[1]) / WIDE, float(size[2]) / HIGH)
        if best is None or shrunk < 0.9 * best[0]:
            best = shrunk, svg, dot
        if shrunk == 1:
            break
    assert best is not None
    return Drawing(_clean(best[1], tips), best[2])


def _directed(body: str, direction: str) -> tuple[str, str]:
    """Return a picture in one direction, as DOT and as SVG."""
    plain = f"digraph {{\n  graph [rankdir={direction}];\n{body}}}\n"
    try:
        return plain, laid_out(plain, "svg").decode()
    except OutputError:
        # Nested boxes defeat the usual ranking at times ("trouble in init_rank"); this one takes longer.
        newer = f"digraph {{\n  graph [rankdir={direction}, newrank=true];\n{body}}}\n"
        return newer, laid_out(newer, "svg").decode()


def _clean(svg: str, tips: Mapping[str, str]) -> str:
    """Return the bare `<svg>` element: sized to its place, with tooltips that say what a thing is."""
    head = _head.search(svg)
    assert head is not None
    start = head[0].replace("<svg", '<svg style="max-width:100%;height:auto"', 1)

    def title(found: re.Match[str]) -> str:
        # Ids would be those of other pictures on the page, too.
        tip = tips.get(html.unescape(found[1]))
        said = "" if tip is None else f"<title>{html.escape(tip)}</title>\n"
        return f'<g class="{found[2]}"{found[3]}>\n{said}'

    body = re.sub(r"<!--.*?-->\s*", "", svg[head.end() :], flags=re.DOTALL)
    return start + _edge_text.sub(f"<text {HALO}", _title.sub(title, body))


def laid_out(dot: str, format: str, *options: str) -> bytes:
    """Return what the layout program makes of a text in DOT.

    Raises
    ------
    OutputError
        If the program is missing, fails or takes too long.
    """
    program = shutil.which(LAYOUT, path=sysconfig.get_path("scripts")) or shutil.which(LAYOUT)
    if program is None:
        raise OutputError(f"the layout program {LAYOUT} is missing: pip install {LAYOUT}")
    try:
        done = subprocess.run(
            [program, f"-T{format}", *options], input=dot.encode(), capture_output=True, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        raise OutputError(f"no layout was found in {PATIENCE} s: draw fewer nodes (nodes=, --nodes)") from None
    except OSError as error:
        raise OutputError(f"the layout program {LAYOUT} failed: {error}") from None
    if done.returncode or not done.stdout:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        said = next((line for line in lines if not line.startswith("Warning")), "")
        raise OutputError(f"the layout program {LAYOUT} failed: {said or f'exit code {done.returncode}'}")
    return done.stdout
