"""What is found of properties: whether each holds, by how much, and what more data would tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from flowstat.results import LINEAGES, Result, Row, counted

__all__ = ["Checked", "Checks", "Verdict"]

Verdict = Literal["holds", "fails", "cannot tell", "answered"]


@dataclass(frozen=True)
class Checked:
    """What is found of one property.

    Attributes
    ----------
    name, property
        Its name, if it has one, and its text.
    verdict
        `holds`, `fails`, `cannot tell`; `answered` where a number is asked for (`=?`).
    value
        The number of the outermost operator, a chance, share, number of events or seconds; None for several operators.
    low, high
        The credible interval of the number, where traces stand behind it; of a time window without traces, between what
        it is known to lie.
    more_runs
        About how many more runs would tell, if the number stays as it is; None where nothing is to be told, or no
        number of runs would tell.
    reason
        Why it can't be told, or what else has to be known.
    error_bound
        How far the number may be off for the shares as they are estimated, proven.
    """

    name: str
    property: str
    verdict: Verdict
    value: float | None = None
    low: float | None = None
    high: float | None = None
    more_runs: int | None = None
    reason: str = ""
    error_bound: float = 0.0


@dataclass(frozen=True)
class Checks(Result):
    """What is found of some properties, in their order."""

    title: ClassVar[str] = "Checks: what was asked of the runs, and whether it holds"
    columns: ClassVar[tuple[str, ...]] = (
        "name",
        "verdict",
        "property",
        "value",
        "low",
        "high",
        "more_runs",
        "reason",
        "error_bound",
    )
    beside: ClassVar[tuple[str, ...]] = ("error_bound",)
    checks: tuple[Checked, ...]
    confidence: float
    runs: int | None = None
    """How many runs stand behind the numbers; None where none does."""
    prior: float = 1.0
    """The weight of the prior, in events."""
    fans_out: bool = False

    @property
    def holds(self) -> bool | None:
        """True if all properties hold, False if one fails, else None: one can't be told. `=?` does not count."""
        verdicts = {c.verdict for c in self.checks}
        return False if "fails" in verdicts else None if "cannot tell" in verdicts else True

    @property
    def summary(self) -> str:
        """How many hold, fail, can't be told and were answered, in words."""
        words = {"holds": "hold", "fails": "fail", "cannot tell": "can't be told", "answered": "answered"}
        said = []
        for verdict, several in words.items():
            n = sum(c.verdict == verdict for c in self.checks)
            one = verdict if verdict in ("holds", "fails") else several
            said.extend([f"{n:,} {one if n == 1 else several}"] if n else [])
        return ", ".join(said)

    def printed(self) -> tuple[str, ...]:
        """Return the columns that have something in them."""
        rows = self.rows()
        always = ("verdict", "property")
        return tuple(c for c in super().printed() if c in always or any(row[c] not in (None, "") for row in rows))

    def rows(self) -> list[Row]:
        """Return one row a property."""
        return [{column: getattr(c, column) for column in self.columns} for c in self.checks]

    def notes(self) -> tuple[str, ...]:
        """Say what stands behind the verdicts."""
        if self.runs is None:
            said = ["No traces stand behind these: they are about the shares as they are stated."]
        else:
            level = f"{self.confidence * 100:.6g}%"
            behind = f" ({counted(self.runs, 'run')})" if self.runs else ""
            said = [
                f"With traces{behind}: holds or fails where all of the {level} interval (low to high) does. The "
                "interval is an estimate, from the posterior of the shares by the delta method; it is wider where a "
                "property has several bounds, so that all of them together are that sure."
            ]
            if not self.prior:
                said.append("The prior is 0: what was never seen is taken to be impossible, and that with certainty.")
        return (*said, LINEAGES) if self.fans_out else tuple(said)
