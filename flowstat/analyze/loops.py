"""Loops: strongly connected parts with a cycle, nested, and what each does to a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from flowstat.analyze.arrow_times import Latencies
from flowstat.analyze.cycles import Cycle
from flowstat.estimate.chain import Chain, Start, start_law
from flowstat.results import LINEAGES, Result, Row, counted

__all__ = ["Exit", "Loop", "Loops", "loops"]


@dataclass(frozen=True)
class Exit:
    """One way out of a loop: from `source` to `target` (`(end)`: the run stops), and its chance."""

    source: str
    target: str
    probability: float
    error_bound: float = 0.0
    """How far the probability may be off."""


@dataclass(frozen=True)
class Loop:
    """One loop of the program.

    Attributes
    ----------
    nodes
        Its nodes, header first.
    kind
        `self`: the node sends to itself; `chain`: it leads back through other nodes.
    header
        The node whose returns are counted as rounds: the entry that most runs come in by, the
        alphabetically first of equals.
    entries
        Nodes where runs come in, most used first.
    keys
        Topic keys on the arrow of a self-loop.
    depth, parent
        How deep it is nested (0: outermost), and the position of the loop around it, or None.
    reached
        Chance that a run comes to any of its nodes.
    entered
        Chance that a run goes round at least once.
    again
        Chance of another round, at its header.
    rounds
        Mean number of rounds in a run that goes round at all; `inf` if it never leaves.
    rounds_per_arrival
        Mean number of rounds each time the header is arrived at from outside: `again / (1 - again)`.
    exits
        Ways out with their chances, most probable first; they sum to 1, or there are none.
    events
        Expected events per run at its nodes, and `events_per_entry` each time it is entered.
    share
        Share of all events that happen at its nodes, in [0, 1].
    gain, effect
        Spectral radius of the mean number of messages among its nodes: below 1 what is in it `dampens`, above it
        `grows`, and where 1 lies within the bound it `keeps`.
    period
        Greatest common divisor of the lengths of its cycles: to come back takes a multiple of it.
    irreducible
        Whether it can be come into at other nodes than its header, by the graph.
    time
        Expected time per run, in seconds, from events at its nodes to what follows them; None if latencies are unknown.
    cycles
        The most probable elementary cycles inside, best first; `traversals` are those each time the loop is entered.
    several
        Whether events on the way to it send several messages: chances are then those of one lineage of a
        run, else those of the run.
    """

    nodes: tuple[str, ...]
    kind: Literal["self", "chain"]
    header: str
    entries: tuple[str, ...]
    keys: tuple[str, ...]
    depth: int
    parent: int | None
    reached: float
    entered: float
    again: float
    rounds: float
    rounds_per_arrival: float
    exits: tuple[Exit, ...]
    events: float
    events_per_entry: float
    share: float
    several: bool = False
    gain: float = 0.0
    effect: Literal["dampens", "keeps", "grows", "can't tell"] = "dampens"
    period: int = 1
    irreducible: bool = False
    time: float | None = None
    cycles: tuple[Cycle, ...] = ()
    reached_bound: float = 0.0
    entered_bound: float = 0.0
    again_bound: float = 0.0
    rounds_bound: float = 0.0
    rounds_per_arrival_bound: float = 0.0
    events_bound: float = 0.0
    events_per_entry_bound: float = 0.0
    share_bound: float = 0.0
    gain_bound: float = 0.0
    time_bound: float = 0.0

    @property
    def inner(self) -> str:
        """The most probable cycle inside, as one reads it; empty where none was looked for."""
        return self.cycles[0].name if self.cycles else ""

    @property
    def name(self) -> str:
        """The loop as one reads it: `pay -> pay`, or its header with the other nodes."""
        if self.kind == "self":
            return f"{self.header} -> {self.header}"
        return f"{self.header} -> ... -> {self.header}"


@dataclass(frozen=True)
class Loops(Result):
    """The loop forest: every loop before those nested in it, outermost ones in topological order."""

    title: ClassVar[str] = "Loops"
    columns: ClassVar[tuple[str, ...]] = (
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
        "period",
        "time",
        "cycle",
        "entered_bound",
        "rounds_bound",
        "share_bound",
        "gain_bound",
    )
    beside: ClassVar[tuple[str, ...]] = (
        "events",
        "period",
        "time",
        "cycle",
        "entered_bound",
        "rounds_bound",
        "share_bound",
        "gain_bound",
    )
    loops: tuple[Loop, ...]
    fans_out: bool = False
    left_out: int = 0
    """How many loops deep in large classes are not described."""
    timeless: str = ""
    """Why no time is told."""

    @property
    def error_bound(self) -> float:
        """How far any of the chances to be entered may be off, proven: see `flowstat.analyze.solve`."""
        return max((loop.entered_bound for loop in self.loops), default=0.0)

    def rows(self) -> list[Row]:
        """Return one row a loop."""
        return [
            {
                "loop": "  " * loop.depth + loop.name,
                "kind": loop.kind,
                "nodes": list(loop.nodes),
                "entries": list(loop.entries),
                "reached": loop.reached,
                "entered": loop.entered,
                "again": loop.again,
                "rounds": loop.rounds,
                "exits": [f"{e.target} {e.probability:.1%}" for e in loop.exits],
                "events": loop.events,
                "share": loop.share,
                "gain": loop.gain,
                "period": loop.period,
                "time": loop.time,
                "cycle": loop.inner,
                "entered_bound": loop.entered_bound,
                "rounds_bound": loop.rounds_bound,
                "share_bound": loop.share_bound,
                "gain_bound": loop.gain_bound,
            }
            for loop in self.loops
        ]

    def notes(self) -> tuple[str, ...]:
        """Say what the columns mean, or that there is no loop."""
        if not self.loops:
            return ("There is no loop: every run passes each node at most once.",)
        return (
            "reached: chance that a run comes to the loop; entered: that it goes round at least once; again: chance of "
            "another round; rounds: mean rounds of a run that goes round; share: of all events; gain: below 1 its "
            "messages dampen, above 1 they multiply.",
            *(
                [f"{counted(self.left_out, 'loop')} nested in large ones, with fewer events, are not described."]
                if self.left_out
                else []
            ),
            *([LINEAGES] if self.fans_out else []),
        )


def loops(
    chain: Chain,
    start: Start = None,
    cycles: int | None = None,
    latencies: Latencies | None = None,
) -> Loops:
    """Find the loops of a chain, nested, with what each does to a run.

    Parameters
    ----------
    chain
        A chain.
    start
        A node or a law over nodes; the chain's start law if not given.
    cycles
        How many elementary cycles to list inside each loop; if not given, 3 where there are no more than 200 loops.
    latencies
        (source, target) -> mean and standard deviation in seconds, where they are not those of the counts.

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

    The forest takes nearly linear time; of each loop the body is solved, by elimination up to 300 nodes, else as
    `solve` does. In classes of more than 1,500 nodes no more than 200 loops below the outermost are described, those
    with the most events.

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
    return Loops(tuple(found), chain.fans_out, walker.left_out, walker.timeless)
