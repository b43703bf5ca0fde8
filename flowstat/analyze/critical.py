"""The critical setting of an arrow: at which share of it the messages of its loop go from dampened to multiplied."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import sparse

from flowstat.analyze.bounded import exact, minus, quotient
from flowstat.analyze.changes import read_changes
from flowstat.analyze.derived import whole
from flowstat.analyze.elimination import UNIT
from flowstat.analyze.offspring import Offspring, Source, chain_of, offspring
from flowstat.analyze.positive import positive
from flowstat.analyze.radius import enclose
from flowstat.analyze.search import Index, Vector
from flowstat.analyze.solve import Solved
from flowstat.analyze.strong import Classes
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import END
from flowstat.read.graph import Graph
from flowstat.results import Result, Row, counted

__all__ = ["Critical", "Setting", "critical"]

Way = str | tuple[str, str]
Ways = Way | Iterable[Way] | None

LARGE = 400
"""Up to how many nodes of a class the settings of all its arrows are looked for: each source takes a solve."""


@dataclass(frozen=True)
class Setting:
    """The share of a way at which its class is critical.

    `share` is how often an event of the source sends anything to the targets now, and `critical` how often it would at
    the critical point; None if there is no such share, and `reason` says why. `multiplies` tells on which side of it
    messages multiply: `above`, `below`, or `never` where there is no share on that side. `returns` is the mean number
    of messages that come back to the source, first of their lineage, from one event there: below 1 now where they
    dampen.
    """

    source: str
    key: tuple[str, ...]
    target: str
    share: float
    critical: float | None
    multiplies: str
    returns: float | None
    reason: str = ""
    error_bound: float = 0.0
    """How far `critical` may be off, proven."""
    returns_bound: float = 0.0


@dataclass(frozen=True)
class Critical(Result):
    """The critical settings, those nearest to what is set now first."""

    title: ClassVar[str] = "Critical settings: at which share of an arrow do messages multiply?"
    columns: ClassVar[tuple[str, ...]] = (
        "source",
        "key",
        "target",
        "share",
        "critical",
        "multiplies",
        "returns",
        "reason",
        "error_bound",
        "returns_bound",
    )
    beside: ClassVar[tuple[str, ...]] = ("returns", "error_bound", "returns_bound")
    settings: tuple[Setting, ...]
    without: int = 0
    left_out: int = 0
    large: int = 0

    @property
    def error_bound(self) -> float:
        """How far any of the settings may be off, proven."""
        return max((s.error_bound for s in self.settings), default=0.0)

    def rows(self) -> list[Row]:
        """Return one row a way."""
        return [{c: list(s.key) if c == "key" else getattr(s, c) for c in self.columns} for s in self.settings]

    def printed(self) -> tuple[str, ...]:
        """Return the columns that a printed table has: reasons where there are any."""
        given = any(s.reason for s in self.settings)
        return tuple(c for c in super().printed() if given or c != "reason")

    def notes(self) -> tuple[str, ...]:
        """Say what the columns mean and what is left out."""
        said = []
        if self.settings:
            said.append(
                "share: of the source's events that send there; its other send patterns keep their proportions. "
                "multiplies: on which side of the critical share."
            )
        if self.without:
            said.append(f"{counted(self.without, 'arrow')} on loops can be set to any share: none makes them critical.")
        if self.left_out:
            said.append(f"{counted(self.left_out, 'arrow')} further from critical left out.")
        if self.large:
            said.append(f"{counted(self.large, 'class')} of more than {LARGE} nodes left out: name an arrow.")
        return tuple(said)


def critical(
    source: Source, ways: Ways = None, graph: Graph | None = None, *, top: int = 20, prior: float = 1.0
) -> Critical:
    """Find the shares at which the loops of an arrow become critical.

    The share of a way is how often an event of its source sends anything there. At another share the send patterns that
    do keep their proportions, and so do those that do not, nothing sent being one of them; where none of the latter is
    known, the events send nothing instead.

    Parameters
    ----------
    source, graph, prior
        See `flowstat.analyze.amplification.amplification`.
    ways
        `"a -> b"`, `"a/key"`, `"a -> (end)"` or a pair, or several; all arrows that are on loops if not given.
    top
        How many are listed at most, at least 1, where all are looked at.

    Returns
    -------
    Critical
        For each way the share in [0, 1] at which the root of its class is exactly 1, if there is one.

    Raises
    ------
    AnalysisError
        If a way can't be read, `top` is no whole number of at least 1, or shares of a node that fans out were changed.

    Notes
    -----
    Only the source's row of the mean matrix changes. With B the class without the source, of root below 1, and w the
    expected number of first returns, `w = (I - B)^-1 M_Bi`, the root is below, at or above 1 as `r = M_i w`, the mean
    number of first returns of one event's messages, is: the determinant of I - M is `(1 - r) det(I - B)` (Horn and
    Johnson, Matrix Analysis (2nd ed., 2013), section 0.8.5). r is a straight line in the share, so that
    the setting is `(1 - r_0) / (r_1 - r_0)`. One solve for each source.

    Examples
    --------
    >>> from flowstat.estimate.counts import Counts
    >>> found = critical(Counts({("a", "b b"): 1, ("a", ""): 4, ("b", "a"): 9, ("b", ""): 1}), "a -> b")
    >>> [(s.share, round(s.critical, 12), s.multiplies) for s in found.settings]
    [(0.2, 0.555555555556, 'above')]
    """
    top = whole("the number of arrows", top, 1)
    chain = chain_of(source, graph, prior)
    law = offspring(chain)
    if ways is not None:
        found = []
        for way in _listed(ways):
            change = read_changes(chain, {way: 0.0})[0]
            i = chain.index[change.source]
            targets = np.array([chain.index.get(t, len(chain.names)) for t in change.targets])
            found.append(_Source(law, i, targets).setting(targets))
        return Critical(tuple(found))
    every: list[Setting] = []
    large = 0
    members = law.order.members()
    for c in np.flatnonzero(law.cyclic).tolist():
        states = members[c]
        if len(states) > LARGE:
            large += 1
            continue
        for i in states.tolist():
            at = _Source(law, i, np.zeros(0, np.int64))
            row = law.mean.indices[law.mean.indptr[i] : law.mean.indptr[i + 1]]
            every += [at.setting(np.array([j])) for j in row[law.order.label[row] == c].tolist()]
    some = [s for s in every if s.critical is not None]
    some.sort(key=lambda s: (abs((s.critical or 0.0) - s.share), s.source, s.target))
    return Critical(tuple(some[:top]), len(every) - len(some), max(0, len(some) - top), large)


def _listed(ways: str | tuple[str, str] | Iterable[Way]) -> list[Way]:
    """Return one way, or several, as a list; two texts without an arrow are a pair."""
    if isinstance(ways, str):
        return [ways]
    several = list(ways)
    if isinstance(ways, tuple) and len(several) == 2:
        first, last = several
        if isinstance(first, str) and isinstance(last, str) and not any("->" in w or "/" in w for w in (first, last)):
            return [(first, last)]
    if not several:
        raise AnalysisError("name at least one arrow, or leave them out for all that are on loops")
    return several


class _Source:
    """A node in its class, with the first returns to it."""

    def __init__(self, law: Offspring, i: int, targets: Index) -> None:
        self.law, self.i = law, i
        n = len(law.stop)
        self.n = n
        M = law.mean
        label, c = law.order.label, law.order.label[i]
        new = targets[(targets < n)]
        row = M.indices[M.indptr[i] : M.indptr[i + 1]]
        if len(new) and not np.isin(new, row).all():
            # A new arrow may close a loop.
            more = sparse.csr_array((np.ones(len(new)), (np.full(len(new), i), new)), shape=(n, n))
            label = Classes(sparse.csr_array(M + more)).label
            c = label[i]
        states = np.flatnonzero(label == c)
        self.others = states[states != i]
        self.reason = ""
        self.w: Solved | None = None
        self.weights = Solved(np.zeros(n + 1), np.zeros(n + 1))
        self.weights.values[i] = 1.0
        if not len(self.others):
            return
        B = sparse.csr_array(M[self.others][:, self.others])
        proof = positive(B, law.unit)
        found = None
        if proof is not None:
            back = np.asarray(M[self.others][:, [i]].todense()).ravel()
            found = proof.solve(back)
        if found is None:
            self.reason = _why(B, law.unit)
            return
        self.weights.values[self.others] = np.maximum(found.values, 0.0)
        self.weights.bound[self.others] = found.bound

    def setting(self, targets: Index) -> Setting:
        """Return the setting of the ways to some targets, of which n is the end."""
        law, i, n = self.law, self.i, self.n
        names = (*law.chain.names, END)
        first, last = np.searchsorted(law.node, [i, i + 1])
        chance = law.chance[first:last]
        sent = sparse.csr_array(law.sent[first:last])
        hits = np.zeros(last - first, bool)
        for j in targets[targets < n].tolist():
            hits |= np.asarray(sent[:, [j]].todense()).ravel() > 0
        ends = bool((targets == n).any())
        stop = float(law.stop[i])
        q = float(chance[hits].sum()) + (stop if ends else 0.0)
        rest = float(chance[~hits].sum()) + (0.0 if ends else stop)
        share = q / (q + rest)
        target = ", ".join(names[j] for j in targets.tolist())
        key = tuple(dict.fromkeys(k for j in targets.tolist() if j < n for k in law.chain.keys(names[i], names[j])))
        if self.reason:
            return Setting(names[i], key, target, share, None, "", None, self.reason)
        if not (self.weights.values[targets] > 0).any() and not len(self.others) and law.mean[[i], [i]][0] == 0:
            return Setting(names[i], key, target, share, None, "", 0.0, "it is on no loop")
        with_it = self._returns(sent, chance, hits, q)
        if q == 0:
            w = self.weights
            with_it = Solved(w.values[targets].mean(), w.bound[targets].mean() + 4 * UNIT * w.values[targets].sum())
        without = self._returns(sent, chance, ~hits, rest)
        now = Solved(
            share * with_it.values + (1 - share) * without.values,
            1.01 * (with_it.bound + without.bound + 8 * UNIT * (with_it.values + without.values)),
        )
        at = quotient(minus(exact(1.0), without), minus(with_it, without))
        value, off = float(at.values), float(at.bound)
        side = "above" if with_it.values > without.values else "below"
        told = float(now.values), float(now.bound)
        if not np.isfinite(off):
            return Setting(names[i], key, target, share, None, "", told[0], "its share changes nothing", 0.0, told[1])
        if value - off > 1 or value + off < 0:
            least = max(float(with_it.values + with_it.bound), float(without.values + without.bound)) < 1
            reason = "messages dampen at any share" if least else "messages multiply at any share"
            return Setting(names[i], key, target, share, None, "", told[0], reason, 0.0, told[1])
        kept = min(1.0, max(0.0, value))
        if (value + off >= 1) if side == "above" else (value - off <= 0):
            side = "never"
        return Setting(names[i], key, target, share, kept, side, told[0], "", off, told[1])

    def _returns(self, sent: sparse.csr_array, chance: Vector, which: Index, share: float) -> Solved:
        """Return the mean number of first returns of an event whose pattern is one of some."""
        if share == 0:
            return exact(0.0)
        part = sparse.csr_array(sent[which])
        p = chance[which] / share
        w = self.weights
        value = float(p @ (part @ w.values[:-1]))
        off = float(p @ (part @ w.bound[:-1]))
        terms = part.nnz + len(chance) + 12
        return Solved(np.array(value), np.array(1.01 * (off + terms * UNIT * value)))


def _why(B: sparse.csr_array, unit: float) -> str:
    """Say what is known of a class that is not proven to dampen without the source."""
    for states in Classes(B).members():
        block = sparse.csr_array(B[states][:, states])
        if block.nnz and enclose(block, unit)[0] >= 1:
            return "messages multiply, or go on, on other loops of the class, whatever its share is"
    return "whether other loops of the class dampen can't be told"
