"""What is said of elementary cycles, and how they are shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from flowstat.results import LINEAGES, Result, Row, number

__all__ = ["ORDERS", "Cycle", "Cycles", "Order"]

Order = Literal["probability", "flux", "events", "time"]

ORDERS: dict[str, str] = {
    "probability": "most probable first",
    "flux": "most often gone round first",
    "events": "those with most events first",
    "time": "those that take most time first",
}
"""What cycles are listed by, and how that is said."""


@dataclass(frozen=True)
class Cycle:
    """An elementary cycle.

    `nodes` starts at its first node in the chain's order and does not repeat it; `probability` is the product of its
    shares; `traversals` its flux: the expected number of times a run closes it, loops erased as they close (`inf` in a
    closed class that is reached; None if it could not be worked out, or was not asked for). In a closed class `rate` is
    how often it is closed per event in the long run. `time` is what all goings round take in a run, on average, in
    seconds, where cycles are listed by time.
    """

    nodes: tuple[str, ...]
    keys: tuple[str, ...]
    probability: float
    traversals: float | None
    error_bound: float = 0.0
    """How far `traversals` may be off."""
    rate: float | None = None
    rate_bound: float = 0.0
    time: float | None = None

    @property
    def kind(self) -> Literal["self", "chain"]:
        """`self` for one node, else `chain`."""
        return "self" if len(self.nodes) == 1 else "chain"

    @property
    def name(self) -> str:
        """The cycle as one reads it, closed: `a -> b -> a`."""
        return " -> ".join((*self.nodes, self.nodes[0]))


@dataclass(frozen=True)
class Cycles(Result):
    """The foremost elementary cycles, best first.

    `covered` is the share of all events on the listed cycles (None if runs may never end); `more` tells whether there
    are others; `complete` whether the search could finish; `by` what they are listed by. Where it could not, the first
    `sure` are right all the same, and no other cycle counts for more than `unlisted` by what they are listed by (None
    if that is not known); in closed classes, if it is `endless`, that is per event in the long run, times the chance to
    be trapped there.
    """

    title: ClassVar[str] = "Cycles"
    columns: ClassVar[tuple[str, ...]] = (
        "cycle",
        "length",
        "kind",
        "keys",
        "probability",
        "traversals",
        "rate",
        "time",
        "error_bound",
        "rate_bound",
    )
    beside: ClassVar[tuple[str, ...]] = ("rate", "time", "error_bound", "rate_bound")
    cycles: tuple[Cycle, ...]
    covered: float | None
    more: bool
    complete: bool
    fans_out: bool = False
    by: str = "probability"
    covered_bound: float = 0.0
    refused: str = ""
    """Why some traversals are not there."""
    sure: int = 0
    unlisted: float | None = None
    endless: bool = False

    @property
    def error_bound(self) -> float:
        """How far any of the traversals may be off, proven: see `flowstat.analyze.cycle_flux`."""
        return max((c.error_bound for c in self.cycles), default=0.0)

    def rows(self) -> list[Row]:
        """Return one row a cycle."""
        return [
            {
                "cycle": c.name,
                "length": len(c.nodes),
                "kind": c.kind,
                "keys": list(c.keys) if any(c.keys) else [],
                "probability": c.probability,
                "traversals": c.traversals,
                "rate": c.rate,
                "time": c.time,
                "error_bound": c.error_bound,
                "rate_bound": c.rate_bound,
            }
            for c in self.cycles
        ]

    def printed(self) -> tuple[str, ...]:
        """Return the columns that a printed table has: rate and time where they say something."""
        some = {name for name in ("rate", "time") if any(getattr(c, name) is not None for c in self.cycles)}
        return tuple(c for c in self.columns if c not in self.beside or c in some)

    def notes(self) -> tuple[str, ...]:
        """Say what the columns mean and what is not listed."""
        if not self.cycles:
            if not self.complete:
                return (
                    "The search stopped at its bound, and found no cycle. "
                    + (self._most() or "There may be some.")
                    + " Ask for those through a node.",
                )
            return ("There is no cycle." if self.by == "probability" else "There is no cycle that a run goes round.",)
        notes = [
            f"Listed are {ORDERS[self.by]}. probability: product of the shares; traversals: how often a run goes round "
            "it, on average."
        ]
        if any(c.rate is not None for c in self.cycles):
            notes.append("rate: how often a run that is trapped there goes round it per event, in the long run.")
        if any(c.time is not None for c in self.cycles):
            notes.append("time: what all goings round take in a run, on average, in seconds.")
        if self.covered is not None:
            notes.append(f"The listed cycles carry {number(100 * self.covered)}% of all events.")
        if not self.complete:
            notes.append(self._stopped())
        elif self.more:
            notes.append("There are more cycles, none before these: raise top to see them.")
        if self.refused:
            notes.append(f"Some traversals are not there: {self.refused}.")
        if self.fans_out:
            notes.append(LINEAGES)
        return tuple(notes)

    def _stopped(self) -> str:
        """Say how far the list is right."""
        if not self.sure:
            right = "others may belong before or between these."
        elif self.sure < len(self.cycles):
            which = "the first one is" if self.sure == 1 else f"the first {self.sure:,} are"
            right = f"{which} right, after that others may be missing."
        else:
            right = "what is listed is right, but it may not be all."
        return " ".join(["The search stopped at its bound:", right, self._most()]).rstrip()

    def _most(self) -> str:
        """Say what a cycle that is not listed may count for."""
        if self.unlisted is None:
            return ""
        most = number(max(self.unlisted, 1e-300))
        if self.by == "probability":
            return f"None of those has a probability above {most}."
        how = {"flux": "gone round more than {} times", "events": "more than {} events", "time": "more than {} s"}[
            self.by
        ]
        often = "per event in the long run, the chance to be trapped there counted" if self.endless else "a run"
        return f"None of those {'is' if self.by == 'flux' else 'takes'} {how.format(most)} {often}, on average."
