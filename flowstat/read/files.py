"""Graph texts and graph files, in every syntax."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Literal

from flowstat.errors import GraphError
from flowstat.read.graph import Graph
from flowstat.read.native import format_native, parse_native
from flowstat.read.words import shown

__all__ = ["GraphFormat", "format_graph", "parse_graph", "read_graph"]

GraphFormat = Literal["graph", "dot"]

# Possessive, so that a ruler of slashes is one comment and not tried as many. No native text goes on like this.
_dot_space = r"(?:\s|//[^\n]*+|#[^\n]*+|/\*.*?\*/)*+"
_dot_start = re.compile(
    rf'{_dot_space}(?:strict\b{_dot_space})?(?:di)?graph\b{_dot_space}(?:[\w.-]+|"(?:[^"\\]|\\.)*+"|<[^{{;]*>)?'
    rf"{_dot_space}\{{",
    re.DOTALL | re.IGNORECASE,
)


def parse_graph(text: str, format: GraphFormat | None = None, *, origin: str = "<text>") -> Graph:
    """Read a graph from a text.

    Parameters
    ----------
    text
        The native syntax, or DOT.
    format
        `graph` (native) or `dot`; recognised by the text's beginning when not given.
    origin
        What error messages call the text, such as a file's name.

    Raises
    ------
    GraphError
        With every mistake of the text: line, column, the line and a caret.

    Examples
    --------
    >>> graph = parse_graph("order -> pay; pay/retry -> pay; pay/ok -> ship @0.9;")
    >>> graph.nodes
    ('order', 'pay', 'ship')
    >>> graph.arrows[2]
    Arrow(source='pay', key='ok', target='ship', share=0.9)
    """
    if format is None:
        format = "dot" if _dot_start.match(text) else "graph"
    if format == "dot":
        from flowstat.read.dot import parse_dot

        return parse_dot(text, origin)
    if format != "graph":
        raise GraphError(f"unknown graph format {format!r}: it is 'graph' or 'dot'")
    return parse_native(text, origin)


def read_graph(path: str | Path) -> Graph:
    """Read a graph file; `-` is standard input.

    Raises
    ------
    GraphError
        If the file can't be read, is no text, holds no graph, or has mistakes.
    """
    origin = "<stdin>" if str(path) == "-" else shown(str(path), 200)
    try:
        data = sys.stdin.buffer.read() if str(path) == "-" else Path(path).read_bytes()
    except IsADirectoryError:
        raise GraphError(f"{origin} is a directory: name the graph file in it") from None
    except (OSError, ValueError) as error:
        raise GraphError(f"can't read the graph {origin}: {getattr(error, 'strerror', None) or error}") from None
    if b"\0" in data[:4096]:
        raise GraphError(f"{origin} is a binary file, not a graph: is it a trace (-t)?")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise GraphError(f"{origin}:{line}: not UTF-8 text ({error.reason})") from None
    graph = parse_graph(text, origin=origin)
    if not graph.nodes:
        raise GraphError(f"{origin} is empty: it names no node")
    return graph


def format_graph(graph: Graph, format: GraphFormat = "graph") -> str:
    """Write a graph as canonical text: `parse_graph(format_graph(g, f), f) == g` for both formats.

    Examples
    --------
    >>> print(format_graph(parse_graph("a->b->c")), end="")
    a -> b;
    b -> c;
    """
    if format == "dot":
        from flowstat.read.dot import format_dot

        return format_dot(graph)
    if format != "graph":
        raise GraphError(f"unknown graph format {format!r}: it is 'graph' or 'dot'")
    return format_native(graph)
