"""Which classes have the largest Perron roots: all are enclosed at once, before any is decomposed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse

from flowstat.analyze.solve import Index, Solver, Vector

__all__ = ["by_root"]

Mask = npt.NDArray[np.bool_]

SWEEPS, WORK = 40, 2e8
"""After how many products with the whole matrix is seen whether more are worth it, and multiplications in all."""

FALLS = 0.97
"""They are while the widest enclosure gets narrower so much."""

NARROW = 1e-12
"""How narrow, relative to `1 - root`, an enclosure is to be."""

SMALL, SQUARINGS, STACK, SQUARED = 64, 14, 4e6, 4e10
"""Classes of up to so many states are squared so often, in stacks of so many numbers, with so many multiplications."""


def by_root(solver: Solver, top: int = 1) -> list[tuple[int, float]]:
    """Return the classes that have an eigenvalue but 0 with lower bounds of `1 - root`, the largest roots first.

    Parameters
    ----------
    solver
        A chain's.
    top
        How many of the first are to be told from the others, if that is no great effort.

    Notes
    -----
    For any positive x the least of `((I - P) x)_i / x_i` in a class is a lower bound of `1 - root`, and the largest an
    upper one (Collatz and Wielandt; Berman and Plemmons, Nonnegative Matrices in the Mathematical Sciences (1994),
    section 2.1); here they are sums of differences along arrows. Vectors are multiplied with P, all classes at once;
    where many may yet be among the first, small ones are squared, many at once. Linear in the arrows.

    Examples
    --------
    >>> solver = Solver(sparse.csr_array([[0.5, 0.5, 0], [0, 0.25, 0], [0, 0, 0.75]]), np.array([0, 0.75, 0.25]))
    >>> [(solver.classes[c].states.tolist(), round(leave, 12)) for c, leave in by_root(solver)]
    [([2], 0.25), ([0], 0.5), ([1], 0.75)]
    """
    P, label, order = solver.P, solver.label, solver.order
    inside = label[solver.rows] == label[P.indices]
    within = sparse.csr_array((np.where(inside, P.data, 0.0), P.indices, P.indptr), shape=P.shape)
    cyclic = np.bincount(label[solver.rows[inside]], minlength=len(solver.classes)) > 0
    enclosed = _Enclosures(solver, inside)
    begins, x = order.offsets[:-1], np.ones(solver.n)
    most = max(SWEEPS, min(100 * SWEEPS, int(WORK / (P.nnz + solver.n + 1))))
    before, first = np.inf, cyclic
    for k in range(1, most + 1):
        x = (x + within @ x) / 2
        if k % 16 == 0:
            x = x / np.maximum.reduceat(x[order.states], begins)[label]
        x = np.maximum(x, 1e-250)
        if k % SWEEPS in (0, 4):
            enclosed.narrow(x)
        if k % SWEEPS == 0:
            first = cyclic & enclosed.among(cyclic, top)
            width = enclosed.width(first)
            if first.sum() <= 2 * top or width <= NARROW or width > FALLS * before:
                break
            before = width
    if first.sum() > 2 * top and enclosed.width(first) > NARROW:
        enclosed.narrow(_squared(solver, within, first, x))
    low = enclosed.low
    ahead = np.flatnonzero(cyclic)
    ahead = ahead[np.lexsort((ahead, low[ahead]))]
    return [(int(c), float(low[c])) for c in ahead]


class _Enclosures:
    """Bounds of `1 - root` of every class."""

    def __init__(self, solver: Solver, inside: Mask) -> None:
        self.solver = solver
        moves = inside & (solver.rows != solver.P.indices)
        self.arrows = solver.rows[moves], solver.P.indices[moves], solver.P.data[moves]
        closed = np.array([part.closed for part in solver.classes])
        self.low, self.high = np.zeros(len(closed)), np.where(closed, 0.0, np.inf)
        self.narrow(np.ones(solver.n))

    def narrow(self, x: Vector) -> None:
        """Narrow the bounds by what a positive vector tells."""
        solver, (rows, columns, data) = self.solver, self.arrows
        with np.errstate(over="ignore", invalid="ignore"):
            change = data * ((x[rows] - x[columns]) / x[rows])
            leave = solver.exits + np.bincount(rows, weights=change, minlength=solver.n)
            size = solver.exits + np.bincount(rows, weights=np.abs(change), minlength=solver.n)
            low = np.minimum.reduceat((leave - 2 * solver.unit * size)[solver.order.states], solver.order.offsets[:-1])
            high = np.maximum.reduceat((leave + 2 * solver.unit * size)[solver.order.states], solver.order.offsets[:-1])
        self.high = np.fmin(self.high, high)
        # Of a closed class it is 0, whatever rounding says.
        self.low = np.where(self.high > 0, np.fmax(self.low, low), 0.0)

    def among(self, cyclic: Mask, top: int) -> Mask:
        """Return which classes may have one of the `top` largest roots."""
        limit = np.sort(self.high[cyclic])[:top].max(initial=0.0)
        return np.asarray(self.low <= limit)

    def width(self, first: Mask) -> float:
        """Return how wide the widest enclosure of some classes is, relatively."""
        low, high = self.low[first], self.high[first]
        return float(((high - low) / np.where(high > 0, high, 1.0)).max(initial=0.0))


def _squared(solver: Solver, within: sparse.csr_array, first: Mask, x: Vector) -> Vector:
    """Return x, with the Perron vectors of small classes among the first by squaring their blocks, many at once."""
    x, order = x.copy(), solver.order
    sizes = np.diff(order.offsets)
    place = np.empty(solver.n, np.int64)
    place[order.states] = np.arange(solver.n) - np.repeat(order.offsets[:-1], sizes)
    chosen = first & (sizes > 1) & (sizes <= SMALL)
    if SQUARINGS * float((sizes[chosen].astype(np.float64) ** 3).sum()) > SQUARED:
        return x
    for k in np.unique(sizes[chosen]).tolist():
        classes = np.flatnonzero(chosen & (sizes == k))
        step = max(1, int(STACK / k**2))
        for begin in range(0, len(classes), step):
            some: Index = order.offsets[classes[begin : begin + step]][:, None] + np.arange(k)
            states = order.states[some]
            block = within[states.ravel()].tocoo()
            own = solver.label[block.col] == solver.label[states.ravel()][block.row]
            A = np.zeros((len(states), k, k))
            A[block.row[own] // k, block.row[own] % k, place[block.col[own]]] = block.data[own]
            # Half of the turns are put off, since a class may be periodic.
            A = (A + np.eye(k)) / 2
            for _ in range(SQUARINGS):
                A = A @ A
                A /= A.max(axis=(1, 2), keepdims=True)
            x[states] = np.maximum(A.sum(axis=2), 1e-250)
    return x
