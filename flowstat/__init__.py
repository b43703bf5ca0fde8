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
    from flowstat.analyze.absorption import absorption
    from flowstat.analyze.amplification import amplification
    from flowstat.analyze.answers import Answer
    from flowstat.analyze.assess import assess
    from flowstat.analyze.before import before
    from flowstat.analyze.circulation import circulation
    from flowstat.analyze.classes import classes
    from flowstat.analyze.committor import committor
    from flowstat.analyze.critical import critical
    from flowstat.analyze.cycles import cycles, iter_cycles
    from flowstat.analyze.dead import dead_arrows
    from flowstat.analyze.durations import durations, time_law
    from flowstat.analyze.flows import flows
    from flowstat.analyze.generations import generations
    from flowstat.analyze.hitting import hitting
    from flowstat.analyze.loops import loops
    from flowstat.analyze.lumping import coarsest, lump
    from flowstat.analyze.metastable import metastable
    from flowstat.analyze.mixing import mixing
    from flowstat.analyze.passage import first_passage, kemeny
    from flowstat.analyze.quantiles import quantiles
    from flowstat.analyze.reach import reach
    from flowstat.analyze.reactive import reactive_flow
    from flowstat.analyze.restart import restart
    from flowstat.analyze.restriction import restrict
    from flowstat.analyze.reversal import reversal
    from flowstat.analyze.reversible import reversible
    from flowstat.analyze.sensitivity import sensitivity
    from flowstat.analyze.shares import shares
    from flowstat.analyze.simulation import simulate
    from flowstat.analyze.spectrum import spectrum
    from flowstat.analyze.stationary import stationary
    from flowstat.analyze.steps import steps, within
    from flowstat.analyze.timing import timing
    from flowstat.analyze.transforms import condition, pairs, power
    from flowstat.analyze.variants import variants
    from flowstat.analyze.visits import visits
    from flowstat.analyze.what_if import what_if
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
    from flowstat.estimate.chain_files import read_chain, write_chain
    from flowstat.estimate.chain_tables import chain_frame, chain_from_frame, chain_from_networkx
    from flowstat.estimate.counting import count
    from flowstat.estimate.counts import Counts
    from flowstat.estimate.counts_file import read_counts, write_counts
    from flowstat.estimate.discover import discover
    from flowstat.estimate.observed import observed_variants
    from flowstat.estimate.remembering import Remembering, remembering
    from flowstat.estimate.second_order import count_pairs, second_order
    from flowstat.estimate.summary import summarise
    from flowstat.explain.check import check
    from flowstat.explain.conform import conform
    from flowstat.explain.diff import diff
    from flowstat.explain.plan import plan
    from flowstat.explain.property_text import parse_property, read_properties
    from flowstat.read.canonical import open_writer
    from flowstat.read.files import format_graph, parse_graph, read_graph
    from flowstat.read.graph import Arrow, Component, Graph, Route
    from flowstat.read.traces import Traces, read_traces
    from flowstat.run.amqp import work
    from flowstat.run.amqp_inject import inject
    from flowstat.run.app import App
    from flowstat.run.behaviour import Emit, Retry, on
    from flowstat.run.digest import digest
    from flowstat.run.latencies import LatencyLaw, VirtualTime
    from flowstat.run.load import load_behaviours
    from flowstat.run.loop import Limits
    from flowstat.run.pool import Together
    from flowstat.run.program import Supervision
    from flowstat.show.draw import draw
    from flowstat.show.junit import write_junit
    from flowstat.show.plot_coverage import plot_coverage
    from flowstat.show.plot_flows import plot_flows
    from flowstat.show.plot_generations import plot_generations
    from flowstat.show.plot_spectrum import plot_spectrum
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
    "analyze.absorption": ("absorption",),
    "analyze.visits": ("visits",),
    "analyze.shares": ("shares",),
    "analyze.loops": ("loops",),
    "analyze.cycles": ("cycles", "iter_cycles"),
    "analyze.flows": ("flows",),
    "analyze.stationary": ("stationary",),
    "analyze.restart": ("restart",),
    "analyze.passage": (
        "first_passage",
        "kemeny",
    ),
    "analyze.reversal": ("reversal",),
    "analyze.mixing": ("mixing",),
    "analyze.timing": ("timing",),
    "analyze.durations": (
        "durations",
        "time_law",
    ),
    "analyze.sensitivity": ("sensitivity",),
    "analyze.answers": ("Answer",),
    "analyze.what_if": ("what_if",),
    "analyze.restriction": ("restrict",),
    "analyze.transforms": (
        "condition",
        "pairs",
        "power",
    ),
    "analyze.lumping": (
        "coarsest",
        "lump",
    ),
    "analyze.simulation": ("simulate",),
    "estimate.second_order": (
        "count_pairs",
        "second_order",
    ),
    "estimate.remembering": (
        "Remembering",
        "remembering",
    ),
    "analyze.assess": ("assess",),
    "explain.conform": ("conform",),
    "estimate.chain_files": (
        "read_chain",
        "write_chain",
    ),
    "estimate.chain_tables": (
        "chain_frame",
        "chain_from_frame",
        "chain_from_networkx",
    ),
    "analyze.hitting": ("hitting",),
    "analyze.before": ("before",),
    "analyze.steps": (
        "steps",
        "within",
    ),
    "analyze.quantiles": ("quantiles",),
    "analyze.dead": ("dead_arrows",),
    "analyze.reversible": ("reversible",),
    "analyze.spectrum": ("spectrum",),
    "analyze.metastable": ("metastable",),
    "analyze.committor": ("committor",),
    "analyze.reactive": ("reactive_flow",),
    "analyze.amplification": ("amplification",),
    "analyze.generations": ("generations",),
    "analyze.reach": ("reach",),
    "analyze.critical": ("critical",),
    "analyze.circulation": ("circulation",),
    "analyze.variants": ("variants",),
    "estimate.observed": ("observed_variants",),
    "explain.check": ("check",),
    "explain.property_text": ("parse_property", "read_properties"),
    "explain.diff": ("diff",),
    "explain.plan": ("plan",),
    "show.draw": ("draw",),
    "show.junit": ("write_junit",),
    "show.plot_coverage": ("plot_coverage",),
    "show.plot_flows": ("plot_flows",),
    "show.plot_generations": ("plot_generations",),
    "show.plot_spectrum": ("plot_spectrum",),
    "show.report": ("report",),
    "run.amqp": ("work",),
    "run.amqp_inject": ("inject",),
    "run.app": ("App",),
    "run.behaviour": ("Emit", "Retry", "on"),
    "run.digest": ("digest",),
    "run.latencies": ("LatencyLaw", "VirtualTime"),
    "run.load": ("load_behaviours",),
    "run.loop": ("Limits",),
    "run.pool": ("Together",),
    "run.program": ("Supervision",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "AnalysisError",
    "Answer",
    "App",
    "Arrow",
    "Chain",
    "ChainError",
    "Component",
    "Counts",
    "Emit",
    "FlowstatError",
    "Graph",
    "GraphError",
    "LatencyLaw",
    "Limits",
    "OutputError",
    "Remembering",
    "Retry",
    "Route",
    "RunError",
    "Supervision",
    "Together",
    "TraceError",
    "Traces",
    "VirtualTime",
    "absorption",
    "amplification",
    "assess",
    "before",
    "chain_frame",
    "chain_from_frame",
    "chain_from_networkx",
    "check",
    "circulation",
    "classes",
    "coarsest",
    "committor",
    "condition",
    "conform",
    "count",
    "count_pairs",
    "critical",
    "cycles",
    "dead_arrows",
    "diff",
    "digest",
    "discover",
    "draw",
    "durations",
    "estimate",
    "first_passage",
    "flows",
    "format_graph",
    "generations",
    "hitting",
    "inject",
    "iter_cycles",
    "kemeny",
    "load_behaviours",
    "loops",
    "lump",
    "metastable",
    "mixing",
    "observed_variants",
    "on",
    "open_writer",
    "pairs",
    "parse_graph",
    "parse_property",
    "plan",
    "plot_coverage",
    "plot_flows",
    "plot_generations",
    "plot_spectrum",
    "power",
    "quantiles",
    "reach",
    "reactive_flow",
    "read_chain",
    "read_counts",
    "read_graph",
    "read_properties",
    "read_traces",
    "remembering",
    "report",
    "restart",
    "restrict",
    "reversal",
    "reversible",
    "second_order",
    "sensitivity",
    "shares",
    "simulate",
    "spectrum",
    "stationary",
    "steps",
    "summarise",
    "time_law",
    "timing",
    "variants",
    "visits",
    "what_if",
    "within",
    "work",
    "write_chain",
    "write_counts",
    "write_junit",
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
