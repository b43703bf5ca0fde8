"""How much of what was before a chain should remember: orders of the chain side by side."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy import special

from flowstat.estimate.histories import Histories
from flowstat.results import Result, Row, number

__all__ = ["Order", "Orders", "orders"]

Index = npt.NDArray[np.int64]
Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Order:
    """How well a chain of one order says what events send.

    Attributes
    ----------
    order
        `0`: the same at every node; `1`: by node; `1, split`: by node, and at some nodes by the one before; `2`: by
        node and the one before, everywhere.
    parameters
        Free ones: of each node (and node before) one less than the send patterns that the node has.
    log_likelihood
        Of all events, natural logarithm, at its largest.
    aic, bic
        `2 k - 2 L` and `k log n - 2 L`: the smaller, the better.
    held_out
        Log-likelihood per event of runs that were not learnt from; the larger, the better.
    gain, gain_standard_error
        `held_out` less that of order 1, and how far that may be off by chance: an estimate from the parts of the runs.
    """

    order: str
    parameters: int
    log_likelihood: float
    aic: float
    bic: float
    held_out: float | None
    gain: float | None
    gain_standard_error: float | None


@dataclass(frozen=True)
class Orders(Result):
    """Orders of the chain, the one that remembers least first."""

    title: ClassVar[str] = "Order: how much of what was before the chain should remember"
    columns: ClassVar[tuple[str, ...]] = (
        *("order", "parameters", "log_likelihood", "aic", "bic", "held_out", "gain", "gain_standard_error"),
    )
    beside: ClassVar[tuple[str, ...]] = ("log_likelihood",)
    orders: tuple[Order, ...]
    events: int

    def rows(self) -> list[Row]:
        """Return one row an order."""
        return [{c: getattr(order, c) for c in self.columns} for order in self.orders]

    def notes(self) -> tuple[str, ...]:
        """Say which order each criterion prefers."""
        if not self.events:
            return ("There are no events to compare orders by.",)
        best = {name: min(self.orders, key=lambda o: getattr(o, name)).order for name in ("aic", "bic")}
        said = f"AIC prefers order {best['aic']}, BIC order {best['bic']}"
        known = [order for order in self.orders if order.held_out is not None]
        if known:
            said += f", held-out runs order {max(known, key=lambda o: o.held_out or 0.0).order}"
        return (
            f"{said}: of {number(self.events)} events.",
            "held out: log-likelihood per event of a tenth of the runs, learnt from the others, ten times over; gain: "
            "that over order 1.",
        )


def orders(histories: Histories, split: Iterable[str] = ()) -> Orders:
    """Compare chains that remember nothing, the node, or the node before too.

    Parameters
    ----------
    histories
        From `read_histories`. Events whose sender was not recorded are left out.
    split
        Nodes at which a chain of order 1 is split by the node before; nothing to split, no such line.

    Notes
    -----
    AIC: Tong, Journal of Applied Probability 12 (1975); BIC: Katz, Technometrics 23 (1981). For runs held out, what
    a node sends is `(n_s + 1/S) / (n + 1)` over the S send patterns that it has anywhere, and what it sends after
    another `(n_as + p_s) / (n_a + 1)`. The start law is the same for all, and left out. Linear in the kinds of events.

    Examples
    --------
    >>> from flowstat.estimate.histories import Event
    >>> kinds = [Event("a", "c", "d"), Event("a", "c", "e"), Event("b", "c", "d"), Event("b", "c", "e")]
    >>> found = orders(Histories(tuple(kinds), np.array([[9, 9], [1, 1], [1, 1], [9, 9]])))
    >>> [(order.order, order.parameters) for order in found.orders]
    [('0', 1), ('1', 1), ('2', 2)]
    """
    kept = [k for k, event in enumerate(histories.events) if event.before is not None or event.root]
    events = [histories.events[k] for k in kept]
    folds = histories.folds[kept]
    n = int(folds.sum())
    chosen = set(split)
    node, pattern = _numbers(e.node for e in events), _numbers(e.sent for e in events)
    pair, context = _numbers((e.node, e.sent) for e in events), _numbers((e.before, e.node) for e in events)
    after = np.array([e.node in chosen for e in events], bool)
    zero = _Level(np.zeros(len(events), np.int64), pattern, folds)
    one = _Level(node, pair, folds)
    two = _Level(context, np.arange(len(events)), folds, one.predicted)
    # Send patterns of a node, for each node before.
    free = one.size(node) - 1
    contexts = np.unique(context, return_index=True)[1] if events else np.zeros(0, np.int64)
    nodes = np.unique(node, return_index=True)[1] if events else np.zeros(0, np.int64)
    inside = after[contexts]
    found = [
        ("0", max(0, len(set(pattern.tolist())) - 1), zero.fitted, zero.predicted),
        ("1", int(free[nodes].sum()), one.fitted, one.predicted),
    ]
    if chosen:
        size = int(free[contexts][inside].sum() + free[nodes][~after[nodes]].sum())
        mixed = np.where(after, two.fitted, one.fitted), np.where(after[:, None], two.predicted, one.predicted)
        found.append(("1, split", size, *mixed))
    found.append(("2", int(free[contexts].sum()), two.fitted, two.predicted))
    total = folds.sum(axis=1)
    known = bool((folds.sum(axis=0) > 0).sum() > 1)
    base = (folds * np.log(one.predicted)).sum(axis=0)
    made = []
    for name, size, fitted, predicted in found:
        likelihood = float(special.xlogy(total, fitted).sum())
        aic, bic = 2 * size - 2 * likelihood, size * float(np.log(max(n, 1))) - 2 * likelihood
        held = gain = off = None
        if known:
            parts = (folds * np.log(predicted)).sum(axis=0)
            held, gain = float(parts.sum()) / n, float((parts - base).sum()) / n
            off = float(np.sqrt(len(parts) * np.var(parts - base, ddof=1))) / n
        made.append(Order(name, size, likelihood, aic, bic, held, gain, off))
    return Orders(tuple(made), n)


class _Level:
    """Chances of kinds of events by what is remembered: as fitted to all, and as learnt without each fold."""

    def __init__(self, given: Index, sent: Index, folds: Index, prior: Vector | None = None) -> None:
        self.sent = sent
        what, where = _summed(sent, folds), _summed(given, folds)
        total, whole = what.sum(axis=1)[sent], where.sum(axis=1)[given]
        self.fitted: Vector = total / np.maximum(whole, 1)
        if prior is None:
            prior = (1.0 / np.maximum(self.size(given), 1))[:, None]
        learnt = total[:, None] - what[sent], whole[:, None] - where[given]
        self.predicted: Vector = (learnt[0] + prior) / (learnt[1] + 1.0)

    def size(self, given: Index) -> Index:
        """Return how many different things are sent where this one is, for each kind of event."""
        both = np.unique(np.stack([given, self.sent]), axis=1)
        found: Index = np.bincount(both[0], minlength=int(given.max(initial=-1)) + 1)[given]
        return found


def _summed(key: Index, folds: Index) -> Index:
    found = np.zeros((int(key.max(initial=-1)) + 1, folds.shape[1]), np.int64)
    np.add.at(found, key, folds)
    return found


def _numbers(keys: Iterable[object]) -> Index:
    index: dict[object, int] = {}
    return np.array([index.setdefault(key, len(index)) for key in keys], np.int64)
