"""Results as sentences that a reviewer of a design can read aloud."""

from __future__ import annotations

from collections.abc import Callable
from math import isinf

from flowstat.analyze.absorption import Absorption
from flowstat.analyze.cycles import Cycles
from flowstat.analyze.flows import Flows
from flowstat.analyze.intervals import WithIntervals
from flowstat.analyze.loops import Loop
from flowstat.estimate.chain import END, Chain
from flowstat.estimate.remembering import Remembering
from flowstat.read.words import shown
from flowstat.results import counted, number

__all__ = ["absorption_sentences", "cycles_sentence", "data_sentences", "flows_sentences", "loop_sentence", "percent"]

NAMED = 4
"""How many exits, nodes or outcomes a sentence names before it only counts the rest."""


ROUNDED = 5e-4
"""A gain that is not known as well as it is written has its bound beside it."""


def percent(share: float) -> str:
    """Return a share in percent, never rounded to a certainty that it is not.

    Examples
    --------
    >>> percent(0.12345), percent(0.99999), percent(1e-6), percent(1.0)
    ('12.3%', 'over 99.9%', 'under 0.1%', '100%')
    """
    if share <= 0 or share >= 1:
        return "0%" if share <= 0 else "100%"
    if share < 0.001:
        return "under 0.1%"
    if share > 0.999:
        return "over 99.9%"
    return f"{100 * share:.1f}%"


def loop_sentence(loop: Loop, fans_out: bool = False, sure: WithIntervals | None = None) -> str:
    """Return what a loop is, how often runs take it, how they leave it, and what it carries; with intervals, if given.

    Where several lineages of a run can come to it, its chances are those of one of them; where any runs fan
    out (`fans_out`), so is what it carries. The sentence says so.
    """
    runs, run = ("lineages", "lineage") if loop.several else ("runs", "run")
    events = "a lineage's events" if fans_out else "all events"
    if loop.kind == "self":
        keys = [key for key in loop.keys if key != "#"]
        how = "self-injection" + (f", key `{'`, `'.join(keys)}`" if keys else "")
        what = f"{shown(loop.header)} -> {shown(loop.header)} ({how})"
    else:
        others = _named([shown(name) for name in loop.nodes[1:]])
        what = f"{shown(loop.header)} -> ... -> {shown(loop.header)} (a chain that leads back, through {others})"
    if not loop.reached:
        return f"{what}: no {run} comes to it."
    if not loop.again:
        taken = f"no {run} goes round"
    elif isinf(loop.rounds):
        return f"{what}: entered in {percent(loop.entered)} of {runs}, and never left: such a {run} never ends."
    else:
        often = percent(loop.entered) + _between(sure, "entered", loop.name, percent)
        taken = f"entered in {often} of {runs}, {number(loop.rounds)} rounds on average"
        taken += _between(sure, "rounds", loop.name, number)
    sentence = f"{what}: {taken}"
    if len(loop.entries) > 1:
        sentence += f"; {runs} come in at {_named([shown(e) for e in loop.entries])}"
    if loop.exits:
        targets: dict[str, float] = {}
        for way in loop.exits:
            target = f"its end at {shown(way.source)}" if way.target == END else shown(way.target)
            targets[target] = targets.get(target, 0.0) + way.probability
        ordered = sorted(targets.items(), key=lambda item: -item[1])
        if len(ordered) == 1:
            ordered = [(ordered[0][0], 1.0)]
        ways = [f"to {target} {percent(p)}" for target, p in ordered[:NAMED]]
        more = [f"and to {len(ordered) - NAMED:,} more"] if len(ordered) > NAMED else []
        sentence += "; leaves " + ", ".join(ways + more)
    if loop.time:
        sentence += f"; takes {number(loop.time)} s of a {run} on average"
    return f"{sentence}; carries {percent(loop.share)} of {events}; {_gain(loop, sure)}."


def _between(sure: WithIntervals | None, column: str, line: str, told: Callable[[float], str]) -> str:
    """Return the interval of a number, as it is put behind it; nothing if there is none."""
    low, high = sure.between(column, line) if sure is not None else (None, None)
    return "" if low is None or high is None else f" ({told(low)} to {told(high)})"


def _gain(loop: Loop, sure: WithIntervals | None = None) -> str:
    """Return a loop's gain and what it means; one that can't be told from 1 by its digits is told by its word only."""
    if loop.gain is None:
        return "its gain is not known"
    if loop.effect == "can't tell":
        return f"gain {number(loop.gain)} give or take {number(loop.gain_bound)}: can't tell whether it dampens"
    if loop.gain_bound > ROUNDED * loop.gain:
        return f"gain {number(loop.gain)} give or take {number(loop.gain_bound)}, {loop.effect}"
    said = "1" if loop.effect == "keeps" else number(loop.gain)
    if said == "1" and loop.effect != "keeps":
        said = "just below 1" if loop.effect == "dampens" else "just above 1"
    return f"gain {said}{_between(sure, 'gain', loop.name, number)}, {loop.effect}"


def absorption_sentences(result: Absorption) -> list[str]:
    """Return where runs end and how long they are."""
    ends = [f"{shown(o.outcome)} in {percent(o.probability)}" for o in result.outcomes if o.kind == "stop"]
    traps = [f"{shown(o.outcome)} in {percent(o.probability)}" for o in result.outcomes if o.kind == "trap"]
    runs = "Lineages" if result.fans_out else "Runs"
    said = []
    if ends:
        said.append(f"{runs} end at {_named(ends, 8)} of cases.")
    if traps:
        said.append(f"{runs} get stuck for ever in {_named(traps, 8)} of cases.")
    return said + list(result.notes())


def cycles_sentence(result: Cycles) -> str:
    """Return what the listed cycles cover."""
    return " ".join(result.notes())


def flows_sentences(result: Flows) -> list[str]:
    """Return the most probable flow, and how many runs the listed ones cover."""
    if not result.flows:
        return list(result.notes())
    best = result.flows[0]
    runs = "lineages" if result.fans_out else "runs"
    return [
        f"The most probable flow is {shown(best.name, 200)}: {percent(best.probability)} of {runs}.",
        *result.notes(),
    ]


def data_sentences(chain: Chain, *, lineages: bool = True) -> list[str]:
    """Return what stands behind a chain's numbers, and what in it needs attention.

    Without `lineages` the numbers are about whole runs, with all their messages.
    """
    if isinstance(chain, Remembering) and chain.one is not None:
        return [*data_sentences(chain.one, lineages=lineages), chain.sentence()]
    counts = chain.counts
    said = [f"{counted(len(chain.names), 'node')}, {counted(chain.P.nnz, 'pair')} of them with messages between."]
    if counts is None:
        return said
    if not counts.files and not counts.events:
        said.append("No traces: the numbers are the designer's @ shares, even where none is given.")
        return said
    events = sum(counts.events.values())
    files = f" from {_named([shown(f) for f in counts.files], 6)}" if counts.files else ""
    each = f", {number(events / counts.runs)} a run" if counts.runs else ""
    said.append(f"{counted(events, 'event')} of {counted(counts.runs, 'run')}{each}{files}.")
    if counts.fans_out and lineages:
        said.append(
            "Some events send several messages: shares, chances and expected numbers below follow one "
            "lineage, picked at random at each of them."
        )
    for what, where in (
        ("handlings that failed with an exception (status error)", counts.errors),
        ("messages that were never handled (status pending)", counts.pending),
        ("messages that no arrow took (status dropped)", counts.dropped),
    ):
        if where:
            most = sorted(where.items(), key=lambda item: (-item[1], item[0]))
            at = _named([f"{shown(node)} {n:,}" for node, n in most])
            said.append(f"{what[0].upper()}{what[1:]}: {sum(where.values()):,} in all, {at}.")
    if counts.undeclared:
        pairs = [f"{shown(s)} -> {shown(t)} ({n:,})" for (s, t), n in counts.undeclared.items()]
        said.append(f"The traces have messages along no arrow of the graph (undeclared): {_named(pairs)}.")
    if chain.graph is not None:
        known = set(chain.graph.nodes)
        strangers = [shown(node) for node in counts.nodes if node not in known]
        if strangers:
            said.append(f"Nodes of the traces that the graph lacks: {_named(strangers)}.")
        if len(strangers) == len(counts.nodes):
            said.append("No node of the traces is in the graph: is it the right graph?")
    for problem in counts.problems:
        said.append(f"{problem.number:,} {problem.what} (such as {shown(problem.example, 200)}).")
    return said


def _named(names: list[str], most: int = NAMED) -> str:
    if len(names) > most:
        return ", ".join(names[:most]) + f" and {len(names) - most:,} more"
    return ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + names[-1] if names else "nothing"
