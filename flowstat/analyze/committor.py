"""Committors: from each node, the chance to come to one set before another, and to have come from one last."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan
from typing import ClassVar

import numpy as np

from flowstat.analyze.elimination import UNIT
from flowstat.analyze.passages import Ensemble, Nodes, passages
from flowstat.analyze.solve import Index, Solved, Vector, total
from flowstat.estimate.chain import Chain, Start
from flowstat.results import LINEAGES, Result, Row, number

__all__ = ["Committor", "NodeCommittor", "committor"]


@dataclass(frozen=True)
class NodeCommittor:
    """A node's place between A and B.

    `forward` is the chance to come to B before A, counting where it is; `backward` the chance, of a visit there, that
    A was visited after B was (None where no run comes, or stays for ever); `reactive` the visits on a way from A to B
    that does not come back to A, from where it leaves A to where it arrives: per run, or per step in the stationary
    ensemble.
    """

    node: str
    forward: float
    backward: float | None
    reactive: float
    forward_bound: float = 0.0
    backward_bound: float = 0.0
    reactive_bound: float = 0.0


@dataclass(frozen=True)
class Committor(Result):
    """The committors between two sets of nodes, by node in the chain's order.

    `flux` is the expected number of passages from A to B, per run or per step; `rate` those per event at which A was
    the last of both, and `steps` the expected number of messages on a passage (both None if there is no passage).
    """

    title: ClassVar[str] = "Committors: what is between two sets of nodes"
    columns: ClassVar[tuple[str, ...]] = (
        "node",
        "forward",
        "backward",
        "reactive",
        "forward_bound",
        "backward_bound",
        "reactive_bound",
    )
    beside: ClassVar[tuple[str, ...]] = ("forward_bound", "backward_bound", "reactive_bound")
    a: tuple[str, ...]
    b: tuple[str, ...]
    ensemble: Ensemble
    nodes: tuple[NodeCommittor, ...]
    flux: float
    flux_bound: float
    rate: float | None
    rate_bound: float
    steps: float | None
    steps_bound: float
    fans_out: bool = False

    @property
    def error_bound(self) -> float:
        """How far any of the forward committors may be off, proven: see `flowstat.analyze.solve`."""
        return max(v.forward_bound for v in self.nodes)

    def rows(self) -> list[Row]:
        """Return one row a node."""
        return [{column: getattr(v, column) for column in self.columns} for v in self.nodes]

    def notes(self) -> tuple[str, ...]:
        """Say how much passes, and in which ensemble."""
        per = "a run" if self.ensemble == "runs" else "a step in the long run"
        if not self.flux or self.steps is None:
            notes = [f"Nothing passes from {_listed(self.a)} to {_listed(self.b)}: {self.why()}."]
        else:
            notes = [
                f"From {_listed(self.a)} to {_listed(self.b)} there are {number(self.flux)} passages {per}, of "
                f"{number(self.steps)} messages on average."
            ]
        return (*notes, LINEAGES) if self.fans_out else tuple(notes)

    def why(self) -> str:
        """Return why nothing passes."""
        inside = set(self.a)
        there = [v for v in self.nodes if v.node in inside]
        if not any(v.backward for v in there):
            return "no run comes to " + _listed(self.a)
        return f"no way leads from {_listed(self.a)} to {_listed(self.b)}" + (
            " in the long run" if self.ensemble == "stationary" else ""
        )


def committor(chain: Chain, a: Nodes, b: Nodes, start: Start = None) -> Committor:
    """Find the committors between two sets of nodes, and how much passes from one to the other.

    Parameters
    ----------
    chain
        A chain.
    a, b
        A node, or several: from where, and to where. No node is in both.
    start
        A node or a law over nodes; the chain's start law if not given.

    Returns
    -------
    Committor
        For each node: forward and backward committor, visits on passages; the number of passages.

    Raises
    ------
    ChainError
        For a name that is unknown, in both sets, or none at all, or a start that is no law over the nodes.
    AnalysisError
        If a class is too large and too close to closed to be solved.

    Notes
    -----
    Source: Metzner, Schütte, Vanden-Eijnden, Multiscale Modeling and Simulation 7 (2009), section 2: the flow along an
    arrow is `w_i p_ij q_j`, with `w = pi q-`. Two solves among the states of neither set, of the cost of absorption.

    Examples
    --------
    A walk between ruin and 4, that starts at 2; from 1 on it comes to 4 before ruin with 1/4:

    >>> P = [[0, 0, 0, 0, 0], [.5, 0, .5, 0, 0], [0, .5, 0, .5, 0], [0, 0, .5, 0, .5], [0, 0, 0, 0, 0]]
    >>> ruin = Chain.from_matrix(P, ["0", "1", "2", "3", "4"], "2", stop=[1, 0, 0, 0, 1])
    >>> [v.forward for v in committor(ruin, "0", "4").nodes]
    [0.0, 0.25, 0.5, 0.75, 1.0]
    >>> found = committor(ruin, "2", "4")
    >>> found.flux, found.steps
    (0.5, 2.0)
    """
    found = passages(chain, a, b, start)
    w, q = found.weights, found.forward
    # As many passages are at a node as leave it; in B they arrive.
    rows, columns, _ = chain.arrows()
    n = len(chain.names)
    leave, arrive = _summed(rows, found.gross, n), _summed(columns, found.gross, n)
    there = np.isin(np.arange(n), found.b)
    reactive = np.where(there, arrive.values, leave.values)
    doubt = np.where(there, arrive.bound, leave.bound)
    backward, backward_bound = _share(w, found.visits)
    flux = found.flux
    columns_of = (q.values, backward, reactive, q.bound, backward_bound, doubt)
    nodes = tuple(
        NodeCommittor(name, forward, None if isnan(back) else back, *rest)
        for name, forward, back, *rest in zip(chain.names, *(each.tolist() for each in columns_of), strict=True)
    )
    time, events = total(Solved(reactive[~there], doubt[~there])), total(_finite(w))
    rate: tuple[float | None, float] = (None, 0.0)
    steps: tuple[float | None, float] = (None, 0.0)
    if flux.values > 0:
        rate = _ratio(flux, events) if np.isfinite(w.values).all() else (0.0, 0.0)
        steps = _ratio(time, flux)
    return Committor(
        tuple(chain.names[i] for i in found.a),
        tuple(chain.names[i] for i in found.b),
        found.ensemble,
        nodes,
        float(flux.values),
        float(flux.bound),
        *rate,
        *steps,
        chain.fans_out,
    )


def _summed(ends: Index, flow: Solved, n: int) -> Solved:
    """Return the flow of the arrows at each node."""
    values = np.asarray(np.bincount(ends, weights=flow.values, minlength=n), np.float64)
    rounded = (np.bincount(ends, minlength=n) + 2) * UNIT * values
    return Solved(values, 1.01 * (np.bincount(ends, weights=flow.bound, minlength=n) + rounded))


def _share(part: Solved, whole: Solved) -> tuple[Vector, Vector]:
    """Return part by whole, with bounds; no number where nothing is."""
    share, bound = np.full(len(part.values), np.nan), np.zeros(len(part.values))
    some = np.isfinite(whole.values) & (whole.values > whole.bound)
    v, dv = whole.values[some], whole.bound[some]
    ratio = np.minimum(part.values[some] / v, 1.0)
    share[some] = ratio
    bound[some] = np.minimum(1.0, 1.01 * ((part.bound[some] + ratio * dv) / (v - dv) + UNIT * ratio))
    return share, bound


def _ratio(part: Solved, whole: Solved) -> tuple[float, float]:
    value, size = float(part.values / whole.values), float(whole.values - whole.bound)
    if size <= 0:
        return value, float("inf")
    return value, 1.01 * (float(part.bound + value * whole.bound) / size + UNIT * value)


def _finite(of: Solved) -> Solved:
    return Solved(np.where(np.isfinite(of.values), of.values, 0.0), of.bound)


def _listed(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else "{" + ", ".join(names[:6]) + ", ..." * (len(names) > 6) + "}"
