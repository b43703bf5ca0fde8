"""What a chain predicts of whole runs beside what traces have: which variants they are, and how many events long."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf, sqrt
from typing import ClassVar, Literal

import numpy as np
from scipy import special

from flowstat.analyze.search import Vector
from flowstat.analyze.steps import steps
from flowstat.analyze.variants import variants
from flowstat.estimate.chain import Chain, Start
from flowstat.estimate.observed import ObservedVariants
from flowstat.results import LINEAGES, Result, Row, counted, number

__all__ = ["Fit", "Predicted", "fit_of_lengths", "fit_of_variants"]

EXPECTED = 10.0
"""A line has at least so many expected runs, or it is taken together with others."""

LINES = 20
"""How many lines there are about, of lengths."""

LONGEST = 1_000_000
"""Lengths beyond are one line."""


@dataclass(frozen=True)
class Predicted:
    """How many runs there should be of a kind, and how many there are.

    `deviation` is their difference in standard deviations of what chance does; None with fan-out, where it is not
    known.
    """

    what: str
    predicted: float
    observed: float
    runs: float
    deviation: float | None


@dataclass(frozen=True)
class Fit(Result):
    """Shares of runs as the chain predicts them and as traces have them.

    `p_value` is the chance of so much difference or more if the chain holds, at most: the chain was estimated from the
    same runs, which only makes it larger than it need be. None where it can't be had; `reason` says why. With fan-out
    the lines are about lineages; where they are about runs with all their messages (`whole`), what is predicted is
    counted in runs that were played by the chain.
    """

    title: ClassVar[str] = "Runs: what the chain predicts, and what was recorded"
    columns: ClassVar[tuple[str, ...]] = ("what", "predicted", "observed", "runs", "deviation")
    kind: Literal["variants", "lengths"]
    lines: tuple[Predicted, ...]
    runs: float
    statistic: float | None = None
    degrees: int = 0
    p_value: float | None = None
    reason: str = ""
    fans_out: bool = False
    whole: bool = False

    def rows(self) -> list[Row]:
        """Return one row a variant, or range of lengths."""
        return [{c: getattr(line, c) for c in self.columns} for line in self.lines]

    def notes(self) -> tuple[str, ...]:
        """Say how well the two agree."""
        runs = "lineages" if self.fans_out else "runs"
        by = "how likely the chain takes them to be" if self.whole and self.kind == "variants" else _BY[self.kind]
        said = [f"Predicted and observed shares of {number(self.runs)} complete {runs}, by {by}."]
        if self.whole:
            said.append("Of a run all its messages count; what is predicted are shares of runs played by the chain.")
        if self.p_value is not None:
            said.append(
                f"Chi-square {number(self.statistic or 0.0)} with {self.degrees} degrees of freedom: p at most "
                f"{number(self.p_value)} (lines with under {number(EXPECTED)} expected runs are tested together)."
            )
        if self.reason:
            said.append(f"Not tested: {self.reason}.")
        return (*said, LINEAGES) if self.fans_out else tuple(said)


_BY = {"variants": "their nodes in order", "lengths": "their number of events"}


def fit_of_variants(chain: Chain, observed: ObservedVariants, top: int = 10, start: Start = None) -> Fit:
    """Compare how many runs are exactly some walk, for the most probable walks and all others together.

    Parameters
    ----------
    chain
        A chain.
    observed
        From `observed_variants`.
    top
        How many walks; at least 1.
    start
        A node or a law over nodes; the chain's start law if not given.

    Raises
    ------
    AnalysisError
        If `top` is less than 1.
    ChainError
        If the start is no law over the nodes.

    Notes
    -----
    Pearson's chi-square over the walks that have enough expected runs, and the rest. With parameters estimated from the
    same runs it is no larger than the chi-square law without any estimated (Chernoff and Lehmann, Annals of
    Mathematical Statistics 25 (1954)): that law bounds the p-value.

    Examples
    --------
    >>> flip = Chain.from_matrix([[0.5]], ["flip"], stop=[0.5])
    >>> fit_of_variants(flip, ObservedVariants({("flip",): 100, ("flip", "flip"): 100}), 1).p_value
    1.0
    """
    found = variants(chain, top, start, observed)
    runs = observed.runs
    seen = [v.observed or 0.0 for v in found.variants]
    names = [v.name for v in found.variants]
    shares = [v.probability for v in found.variants]
    names.append("(any other)")
    shares.append(max(0.0, 1 - sum(shares)))
    seen.append(max(0.0, runs - sum(seen)))
    return _fit("variants", names, shares, seen, runs, observed)


def fit_of_lengths(chain: Chain, observed: ObservedVariants, start: Start = None) -> Fit:
    """Compare how many events runs have.

    Parameters and errors are those of `fit_of_variants`; for the law of lengths see `flowstat.analyze.steps.steps`.

    Examples
    --------
    >>> flip = Chain.from_matrix([[0.5]], ["flip"], stop=[0.5])
    >>> found = fit_of_lengths(flip, ObservedVariants({("flip",): 100, ("flip", "flip"): 100}))
    >>> [(line.what, line.runs) for line in found.lines]
    [('1', 100.0), ('2', 100.0), ('3 or more', 0.0)]
    """
    lengths: Counter[int] = Counter()
    for nodes, n in observed.table.items():
        lengths[len(nodes)] += n  # type: ignore[assignment]
    runs = observed.runs
    longest = min(max(lengths, default=1), LONGEST)
    law = steps(chain, None, longest, start)
    shares = np.array([c.probability for c in law.chances])
    seen = np.bincount(
        np.minimum(np.array(list(lengths), np.int64), longest + 1), list(lengths.values()), minlength=longest + 2
    )
    # The last line is what is longer than any, and runs that never end.
    shares = np.append(shares, law.beyond + law.never)
    edges = _edges(shares * runs, max(EXPECTED, runs / LINES))
    names = [_range(low, high, len(shares)) for low, high in pairwise(edges)]
    each = [(float(shares[low:high].sum()), float(seen[low:high].sum())) for low, high in pairwise(edges)]
    return _fit("lengths", names, [p for p, _ in each], [n for _, n in each], runs, observed)


def _edges(expected: Vector, least: float) -> list[int]:
    """Return where lines begin that each have at least so many expected runs; the last number is the end."""
    edges, held = [1], 0.0
    for k in range(1, len(expected)):
        held += float(expected[k])
        if held >= least:
            edges.append(k + 1)
            held = 0.0
    if edges[-1] != len(expected):
        # What is left at the end: to the line before where it is too little.
        if held < EXPECTED and len(edges) > 1:
            edges.pop()
        edges.append(len(expected))
    return edges


def _range(low: int, high: int, end: int) -> str:
    if high == end:
        return f"{low:,} or more"
    return f"{low:,}" if high == low + 1 else f"{low:,} to {high - 1:,}"


def _fit(
    kind: Literal["variants", "lengths"],
    names: Sequence[str],
    shares: Sequence[float],
    seen: Sequence[float],
    runs: float,
    observed: ObservedVariants,
) -> Fit:
    lines = []
    for name, p, n in zip(names, shares, seen, strict=True):
        p = min(1.0, p)
        off = sqrt(runs * p * (1 - p))
        known = off > 0 and not observed.fans_out
        lines.append(Predicted(name, p, n / runs if runs else 0.0, n, (n - runs * p) / off if known else None))
    if not runs:
        reason = "there is no complete run"
    elif observed.fans_out:
        reason = "some events send several messages, and the lineages of a run are not drawn one by one"
    elif observed.unfinished:
        some = counted(max(1, round(observed.unfinished)), "run")
        reason = f"the end of {some} was not recorded, and such runs tend to be the long ones"
    else:
        return _tested(kind, lines, runs)
    return Fit(kind, tuple(lines), runs, reason=reason, fans_out=observed.fans_out)


def _tested(kind: Literal["variants", "lengths"], lines: list[Predicted], runs: float) -> Fit:
    """Return the lines with a test of all that have enough expected runs, and of the others together."""
    cells = [(line.predicted * runs, line.runs) for line in lines]
    kept = [cell for cell in cells if cell[0] >= EXPECTED]
    rest = tuple(sum(each) for each in zip(*(cell for cell in cells if cell[0] < EXPECTED), strict=True))
    if rest and rest[0] < EXPECTED and kept:
        smallest = min(range(len(kept)), key=lambda k: kept[k][0])
        rest = (rest[0] + kept[smallest][0], rest[1] + kept[smallest][1])
        del kept[smallest]
    cells = [*kept, (rest[0], rest[1])] if rest else kept
    if len(cells) < 2:
        return Fit(kind, tuple(lines), runs, reason=f"{number(runs)} runs are too few, or too alike")
    statistic = sum((n - e) ** 2 / e if e > 0 else (inf if n else 0.0) for e, n in cells)
    degrees = len(cells) - 1
    return Fit(kind, tuple(lines), runs, statistic, degrees, float(special.chdtrc(degrees, statistic)))
