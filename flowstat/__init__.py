"""flowstat explains event-driven programs: a graph and its traces become a Markov chain.

import flowstat as fs

graph = fs.read_graph("data/orders.graph")
counts = fs.count(fs.read_traces("data/orders.parquet"), graph)
chain = fs.estimate(counts, graph)
fs.loops(chain); fs.cycles(chain); fs.absorption(chain); fs.flows(chain)
fs.report(chain, "review.html")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowstat.analyze.absorption import absorption, visits
    from flowstat.analyze.classes import classes
    from flowstat.analyze.cycles import cycles
    from flowstat.analyze.flows import flows
    from flowstat.analyze.loops import loops
    from flowstat.analyze.shares import shares
    from flowstat.errors import (
        AnalysisError,
        ChainError,
        FlowstatError,
        GraphError,
        OutputError,
        RunError,
        TraceError,
    )
    from flowstat.estimate.chain import Chain, estimate
    from flowstat.estimate.counting import count
    from flowstat.estimate.counts import Counts
    from flowstat.estimate.counts_file import read_counts, write_counts
    from flowstat.estimate.discover import discover
    from flowstat.estimate.summary import summarise
    from flowstat.read.canonical import open_writer
    from flowstat.read.files import format_graph, parse_graph, read_graph
    from flowstat.read.graph import Arrow, Component, Graph, Route
    from flowstat.read.traces import Traces, read_traces
    from flowstat.run.app import App
    from flowstat.run.behaviour import on
    from flowstat.run.load import load_behaviours
    from flowstat.run.loop import Limits
    from flowstat.show.draw import draw
    from flowstat.show.report import report

__version__ = "0.1.0"

_HOMES = {
    "errors": (
        "AnalysisError",
        "ChainError",
        "FlowstatError",
        "GraphError",
        "OutputError",
        "RunError",
        "TraceError",
    ),
    "read.files": ("format_graph", "parse_graph", "read_graph"),
    "read.graph": ("Arrow", "Component", "Graph", "Route"),
    "read.traces": ("Traces", "read_traces"),
    "read.canonical": ("open_writer",),
    "estimate.counting": ("count",),
    "estimate.counts": ("Counts",),
    "estimate.counts_file": ("read_counts", "write_counts"),
    "estimate.discover": ("discover",),
    "estimate.summary": ("summarise",),
    "estimate.chain": ("Chain",),
    "analyze.classes": ("classes",),
    "analyze.absorption": ("absorption", "visits"),
    "analyze.shares": ("shares",),
    "analyze.loops": ("loops",),
    "analyze.cycles": ("cycles",),
    "analyze.flows": ("flows",),
    "show.draw": ("draw",),
    "show.report": ("report",),
    "run.app": ("App",),
    "run.behaviour": ("on",),
    "run.load": ("load_behaviours",),
    "run.loop": ("Limits",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "AnalysisError",
    "App",
    "Arrow",
    "Chain",
    "ChainError",
    "Component",
    "Counts",
    "FlowstatError",
    "Graph",
    "GraphError",
    "Limits",
    "OutputError",
    "Route",
    "RunError",
    "TraceError",
    "Traces",
    "absorption",
    "classes",
    "count",
    "cycles",
    "discover",
    "draw",
    "estimate",
    "flows",
    "format_graph",
    "load_behaviours",
    "loops",
    "on",
    "open_writer",
    "parse_graph",
    "read_counts",
    "read_graph",
    "read_traces",
    "report",
    "shares",
    "summarise",
    "visits",
    "write_counts",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `import flowstat` itself loads nothing heavy."""
    if name == "estimate":
        return import_module("flowstat.estimate")
    if name not in _HOME:
        raise AttributeError(f"module 'flowstat' has no attribute {name!r}")
    value = getattr(import_module(f"flowstat.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
