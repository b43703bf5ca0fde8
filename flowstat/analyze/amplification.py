"""Storms: whether the messages of a run multiply, in which classes, by which arrows, and whether runs die out."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isinf
from typing import Any, ClassVar

from flowstat.analyze.absorption import trap_name
from flowstat.analyze.aim import chance, weighted
from flowstat.analyze.contributions import Contributions, contributions
from flowstat.analyze.derived import whole
from flowstat.analyze.elimination import UNIT
from flowstat.analyze.extinction import survival
from flowstat.analyze.offspring import Offspring, Source, chain_of, offspring
from flowstat.analyze.radius import Radius, Verdict, radii
from flowstat.analyze.run_messages import RunMessages, run_messages
from flowstat.analyze.search import Mask, reachable
from flowstat.estimate.chain import Start, start_law
from flowstat.read.graph import Graph
from flowstat.results import Result, Row, number, plain

__all__ = ["Amplification", "Growth", "amplification"]


@dataclass(frozen=True)
class Growth:
    """Whether the messages of one class multiply.

    `rho` is the factor by which they do in the long run, in each generation, and `margin` is `1 - rho`, of which no
    digits are lost where no event sends several messages to the class. `for_ever` says that each event sends just one
    there: a message that comes to the class never ends. `reached` says whether a run from the start comes there.
    """

    nodes: tuple[str, ...]
    rho: float
    margin: float
    verdict: Verdict
    reached: bool
    for_ever: bool = False
    error_bound: float = 0.0
    margin_bound: float = 0.0


@dataclass(frozen=True)
class Amplification(Result):
    """Whether messages multiply, class by class, the fastest first.

    Attributes
    ----------
    rho, rho_bound
        The largest of the classes' roots, 0 without a loop, and how far it may be off.
    verdict
        Whether it is below, at or above 1, proven; `can't tell` where neither is.
    classes
        Those with a loop.
    events, events_sd
        Mean and standard deviation of the number of events of a run; None where that can't be told.
    reason
        Why they are infinite, or not known.
    dies_out
        The chance that a run ends, in [0, 1]; None where that can't be told.
    arrows, messages
        Tables: the arrows by what they contribute; events by node.
    """

    title: ClassVar[str] = "Amplification: do messages multiply?"
    columns: ClassVar[tuple[str, ...]] = (
        "nodes",
        "rho",
        "margin",
        "verdict",
        "reached",
        "error_bound",
        "margin_bound",
    )
    beside: ClassVar[tuple[str, ...]] = ("error_bound", "margin_bound")
    rho: float
    verdict: Verdict
    classes: tuple[Growth, ...]
    events: float | None
    events_sd: float | None
    dies_out: float | None
    reason: str
    arrows: Contributions
    messages: RunMessages = field(repr=False)
    fans_out: bool = False
    rho_bound: float = 0.0
    events_bound: float = 0.0
    events_sd_bound: float = 0.0
    dies_out_bound: float = 0.0

    @property
    def error_bound(self) -> float:
        """How far any of the roots may be off, proven: see `flowstat.analyze.radius`."""
        return max((c.error_bound for c in self.classes), default=0.0)

    def rows(self) -> list[Row]:
        """Return one row a class."""
        return [{c: trap_name(g.nodes) if c == "nodes" else getattr(g, c) for c in self.columns} for g in self.classes]

    def to_dict(self) -> dict[str, Any]:
        """Return all of the result as JSON-ready data, with its type and format version."""
        return {**super().to_dict(), "messages": plain(self.messages.rows())}

    def notes(self) -> tuple[str, ...]:
        """Say what becomes of a run."""
        said = []
        if not self.classes:
            said.append("There is no loop: nothing can multiply for ever.")
        if self.events is None:
            said.append(f"The expected number of events of a run can't be told: {self.reason}.")
        elif isinf(self.events):
            said.append(f"The expected number of events of a run is infinite: {self.reason}.")
        else:
            deviation = f" (standard deviation {number(self.events_sd)})" if self.events_sd is not None else ""
            said.append(f"A run has {number(self.events)} events on average{deviation}.")
        if self.dies_out is None:
            said.append("Whether it dies out can't be told.")
        elif self.dies_out_bound > 1e-6:
            low, high = max(0.0, self.dies_out - self.dies_out_bound), min(1.0, self.dies_out + self.dies_out_bound)
            said.append(f"It dies out with a probability between {number(low)} and {number(high)}.")
        else:
            said.append(f"It dies out with probability {number(self.dies_out)}.")
        if not self.fans_out:
            said.append("No event sends several messages: a run is one lineage.")
        return tuple(said)


def amplification(
    source: Source, graph: Graph | None = None, start: Start = None, *, top: int = 20, prior: float = 1.0
) -> Amplification:
    """Find whether fan-out makes messages multiply.

    Parameters
    ----------
    source
        A chain with its counts, counts, or a graph alone: see `flowstat.analyze.offspring.offspring` for what is known
        of the offspring of each.
    graph, prior
        With counts: see `estimate`.
    start
        A node or a law over nodes; the chain's start law if not given.
    top
        How many arrows are listed, at least 1.

    Returns
    -------
    Amplification
        The root of every class with a proven enclosure and what follows from it for a run.

    Raises
    ------
    ChainError
        If the start is no law over the nodes.
    AnalysisError
        If `top` is no whole number of at least 1, or shares of a node that fans out were changed.

    Notes
    -----
    The mean matrix M has the expected messages from each event; a class multiplies if the spectral radius of its block
    is above 1 (Harris (1963), theorem II.7.1). Expected events are `alpha (I - M)^-1`; the variance from each node adds
    up what its event's messages change in the expectation, `(I - M)^-1 sigma^2` (Athreya and Ney (1972), chapter V). At
    exactly critical classes the expectation is infinite, though runs die out.
    Sources, costs and bounds: `flowstat.analyze.radius`, `progeny`, `extinction`.

    Examples
    --------
    >>> from flowstat.estimate.counts import Counts
    >>> storm = amplification(Counts({("a", "a a"): 3, ("a", ""): 1}, {"a": 1}))
    >>> storm.rho, storm.verdict, storm.events, round(storm.dies_out, 12)
    (1.5, 'multiplies', inf, 0.333333333333)
    """
    top = whole("the number of arrows", top, 1)
    chain = chain_of(source, graph, prior)
    begin = start_law(chain, start)
    law = offspring(chain)
    found = radii(law)
    live = reachable(law.mean, begin > 0)
    growths = [
        Growth(
            tuple(chain.names[i] for i in r.states),
            r.rho,
            r.margin,
            r.verdict,
            bool(live[r.states[0]]),
            r.for_ever,
            r.bound,
            r.margin_bound,
        )
        for r in found
    ]
    growths.sort(key=lambda g: (g.margin, g.nodes))
    rho, bound, verdict = _overall(growths)
    alive, doubtful = survival(law, found)
    lost, off = weighted(begin, alive)
    dies = None if (begin[doubtful] > 0).any() else chance(max(0.0, 1.0 - lost))
    messages, run = run_messages(law, begin, found, alive, doubtful)
    return Amplification(
        rho,
        verdict,
        tuple(growths),
        run.events,
        run.deviation,
        dies,
        run.reason or _reason(law, found, live),
        contributions(law, found, top),
        messages,
        law.fans_out,
        bound,
        run.events_bound,
        run.deviation_bound,
        off + UNIT if dies is not None and lost else 0.0,
    )


def _overall(growths: list[Growth]) -> tuple[float, float, Verdict]:
    """Return the largest root, its bound, and the verdict over all classes."""
    if not growths:
        return 0.0, 0.0, "dampens"
    rho = max(g.rho for g in growths)
    high = max(g.rho + g.error_bound for g in growths)
    low = max(g.rho - g.error_bound for g in growths)
    verdicts = {g.verdict for g in growths}
    order: tuple[Verdict, ...] = ("multiplies", "can't tell", "critical", "dampens")
    return rho, max(high - rho, rho - low), next(v for v in order if v in verdicts)


def _reason(law: Offspring, found: list[Radius], live: Mask) -> str:
    """Say which class makes the expected number of events infinite, or unknown."""
    reached = [r for r in found if live[r.states[0]] and r.verdict != "dampens"]
    if not reached:
        return ""
    worst = max(reached, key=lambda r: (r.verdict == "multiplies", r.verdict == "critical", r.rho))
    name = trap_name(tuple(law.chain.names[i] for i in worst.states))
    if len(name) > 80:
        name = f"a class of {len(worst.states):,} nodes"
    if worst.for_ever:
        return f"what comes to {name} never ends"
    if worst.verdict == "multiplies":
        return f"messages multiply in {name}, by {number(worst.rho)} a generation"
    if worst.verdict == "critical":
        return f"{name} is critical: each message has one after it on average, in every generation"
    return f"the radius of {name} can't be told from 1"
