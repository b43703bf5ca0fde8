"""Loops: strongly connected parts with a cycle, nested, and what each does to a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flowstat.analyze.arrow_times import Latencies
from flowstat.analyze.intervals import Intervals, WithIntervals, intervals_of
from flowstat.analyze.loop import Exit, Exits, Loop
from flowstat.analyze.loop_intervals import asked_loops
from flowstat.estimate.chain import Chain, Start, start_law
from flowstat.read.words import shown
from flowstat.results import LINEAGES, Row, counted

__all__ = ["Exit", "Exits", "Loop", "Loops", "loops"]

WIDE = 28
"""How wide a loop's name is in a printed table."""

DEEP = 3
"""Up to which depth a printed name is moved in; deeper it says how deep."""

EXIT = 16
"""How wide the name of the most probable exit is there."""


@dataclass(frozen=True)
class Loops(WithIntervals):
    """The loop forest: every loop before those nested in it, outermost ones in topological order.

    `sure` has `entered:NAME`, `rounds:NAME` and `gain:NAME` of the first ones.
    """

    title: ClassVar[str] = "Loops"
    columns: ClassVar[tuple[str, ...]] = (
        "where",
        "size",
        "loop",
        "kind",
        "nodes",
        "entries",
        "reached",
        "entered",
        "again",
        "rounds",
        "exits",
        "events",
        "share",
        "gain",
        "leaves_to",
        "effect",
        "period",
        "time",
        "cycle",
        "entered_low",
        "entered_high",
        "rounds_low",
        "rounds_high",
        "gain_low",
        "gain_high",
        "entered_bound",
        "rounds_bound",
        "share_bound",
        "gain_bound",
    )
    beside: ClassVar[tuple[str, ...]] = tuple(
        c for c in columns if c not in ("where", "size", "entered", "rounds", "share", "gain", "leaves_to")
    )
    loops: tuple[Loop, ...]
    fans_out: bool = False
    left_out: int = 0
    """How many loops were found and not described, for want of room."""
    timeless: str = ""
    """Why no time is told."""
    growthless: str = ""
    """Why no gain is told."""
    unlisted: int = 0
    """In how many loops no cycles were looked for, because they are large and none were asked for."""
    unproven: int = 0
    """In how many loops the search for cycles ended before all of the listed ones were proven to be foremost."""

    @property
    def error_bound(self) -> float:
        """How far any of the chances to be entered may be off, proven: see `flowstat.analyze.solve`."""
        return max((loop.entered_bound for loop in self.loops), default=0.0)

    def rows(self) -> list[Row]:
        """Return one row a loop."""
        return [
            {
                "where": _where(loop),
                "size": len(loop.nodes),
                "loop": "  " * loop.depth + loop.name,
                "kind": loop.kind,
                "nodes": list(loop.nodes),
                "entries": list(loop.entries),
                "reached": loop.reached,
                "entered": loop.entered,
                "again": loop.again,
                "rounds": loop.rounds,
                "exits": [f"{e.target} {_percent(e.probability)}" for e in loop.exits],
                "events": loop.events,
                "share": loop.share,
                "gain": loop.gain,
                "leaves_to": _leaves_to(loop),
                "effect": loop.effect,
                "period": loop.period,
                "time": loop.time,
                "cycle": loop.inner,
                **self._intervals(loop),
                "entered_bound": loop.entered_bound,
                "rounds_bound": loop.rounds_bound,
                "share_bound": loop.share_bound,
                "gain_bound": loop.gain_bound,
            }
            for loop in self.loops
        ]

    def _intervals(self, loop: Loop) -> Row:
        found: Row = {}
        for column in ("entered", "rounds", "gain"):
            found[f"{column}_low"], found[f"{column}_high"] = self.between(column, loop.name)
        return found

    def notes(self) -> tuple[str, ...]:
        """Say what the columns mean, or that there is no loop."""
        if not self.loops:
            return ("There is no loop: every run passes each node at most once.",)
        said = [
            "size: nodes (1: it sends to itself); entered: chance that a run goes round at least once; rounds: mean "
            "rounds of a run that does; share: of all events; gain: below 1 its messages dampen, above 1 they "
            "multiply; leaves to: the most probable exit (+ how many more)."
        ]
        if self.left_out:
            # Of loops within loops that are left out nothing is known.
            said.append(
                f"Not described: at least {counted(self.left_out, 'loop')} nested in large ones, those with the fewest "
                "events."
            )
        if self.growthless:
            said.append(f"No gain is told: {self.growthless}.")
        if self.unlisted:
            said.append(
                f"Cycles inside were not looked for in {counted(self.unlisted, 'loop')} of many nodes: "
                "loops(..., cycles=3) lists them."
            )
        if self.unproven:
            said.append(
                f"In {counted(self.unproven, 'loop')} the search for cycles ended early: of those listed inside some "
                "may not be the most probable ones."
            )
        return (*said, *([LINEAGES] if self.fans_out else []))


def _where(loop: Loop) -> str:
    """Return a loop's header in little room, moved in by its depth."""
    deep = "  " * loop.depth if loop.depth <= DEEP else "  " * DEEP + f"({loop.depth}) "
    return deep + _short(loop.header, WIDE - len(deep))


def _short(name: str, width: int) -> str:
    """Return a name on one line, without its middle if it is too long."""
    if len(name) > width:
        end = (width - 3) // 2
        name = f"{name[: width - 3 - end]}...{name[-end:]}"
    return shown(name)


def _leaves_to(loop: Loop) -> str:
    """Return where a loop is most probably left to, and to how many other nodes it is."""
    targets = loop.left_to()
    if not targets:
        return "nowhere"
    best, chance = targets[0]
    return f"{_short(best, EXIT)} {_percent(chance)}" + (f" +{len(targets) - 1:,}" if len(targets) > 1 else "")


def _percent(share: float) -> str:
    """Return a chance in percent, never rounded to a certainty that it is not."""
    if 0 < share < 0.001 or 0.999 < share < 1:
        return "<0.1%" if share < 0.5 else ">99.9%"
    return f"{share:.1%}"


def loops(
    chain: Chain,
    start: Start = None,
    cycles: int | None = None,
    latencies: Latencies | None = None,
    *,
    intervals: Intervals = "delta",
    level: float = 0.95,
) -> Loops:
    """Find the loops of a chain, nested, with what each does to a run.

    Parameters
    ----------
    chain
        A chain.
    start
        A node or a law over nodes; the chain's start law if not given.
    cycles
        How many elementary cycles to list inside each loop; if not given, 3 where there are no more than 200 loops, in
        those of up to 1,500 nodes.
    latencies
        (source, target) -> mean and standard deviation in seconds, where they are not those of the counts.
    intervals
        How intervals are found, where traces stand behind the chain: `delta`, `sample`, a `Sampling`, or None.
    level
        Probability that each holds its number, in (0, 1).

    Raises
    ------
    ChainError
        If the start is no law over the nodes.
    AnalysisError
        If a class is too large and too close to closed to be solved, or latencies are given but not of every arrow
        that runs take from nodes of loops.

    Notes
    -----
    A loop is a strongly connected set with a cycle; without its header, what is still strongly connected
    are the loops nested in it (loop-nesting forest: Steensgaard 1993; irreducible loops: Wei et al., SAS 2007). A
    header that also sends to itself has that self-loop nested too. With body B, the chance of another round is
    `r = p_hh + P_hB (I - P_BB)^-1 P_Bh`; rounds are geometric with mean r / (1 - r) per arrival. With g the
    chance never to come back to h from h at all (1 / N_hh), a run goes round at all with probability
    `P(reach h) r / (g + r)`, and then `1 + r / g` times: the returns to h are told apart into those that
    stay inside and those that leave first. Every quantity is computed without subtraction, with a bound (see `solve`).

    A run that comes in visits node i of the loop v_i / F times, with v the visits of the start law and F what comes in
    from outside; if that is by the header only, r is `sum v_i p_ih / v_h`: both take one look at the arrows. Where runs
    come in by several nodes, or none comes, the bodies are solved: all those of a class by one elimination, up to 1,500
    nodes, else one by one as `solve` does. The time grows with the arrows of all loops together, an arrow counted in
    each loop that it is in.

    Nested loops are described up to 2,000,000 nodes in all; in classes of more than 1,500 nodes no more than 200, and
    up to 300,000 nodes in all. Where there are more, those with the most events are described, and the notes say so.

    Examples
    --------
    >>> retry = Chain.from_matrix([[0.25, 0.75], [0, 0]], ["pay", "ship"], "pay", stop=[0, 1])
    >>> loop = loops(retry).loops[0]
    >>> loop.kind, loop.entered, loop.rounds, loop.exits[0].target, loop.gain
    ('self', 0.25, 1.3333333333333333, 'ship', 0.25)
    """
    from flowstat.analyze.loop_walk import Walker

    walker = Walker(chain, start_law(chain, start), cycles, latencies)
    found = walker.grow()
    mean = None if walker.growthless else walker.mean
    asked = asked_loops(chain, tuple(found), start, mean) if intervals and chain.posterior else {}
    sure = intervals_of(
        chain, intervals, level, lambda: asked, lambda other: {key: each.again(other) for key, each in asked.items()}
    )
    return Loops(
        tuple(found),
        chain.fans_out,
        walker.nest.left_out,
        walker.traffic.timeless,
        walker.growthless,
        walker.unlisted,
        walker.unproven,
        sure=sure,
        level=level,
    )
