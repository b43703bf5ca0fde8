"""A chain as a model checker has it: numbered states with labels, every row a law."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TextIO

import numpy as np
import numpy.typing as npt
from scipy import sparse

from flowstat.errors import ChainError
from flowstat.estimate.chain import END, ROW_SLACK, Chain
from flowstat.read.words import shown

__all__ = ["Model", "Transitions", "fraction", "named", "node", "numbered", "share"]

INIT, DEADLOCK, LAST, FIRST = "init", "deadlock", "end", "start"
RESERVED = (INIT, DEADLOCK, LAST, FIRST)
"""Labels that are no node's name."""

MOST = 2**31 - 1
"""How many states a file can have."""

POWER = 10_000
"""Powers of ten beyond which a number is 0 or infinite as a float, however many digits Python lets it have (4300)."""


@dataclass(frozen=True)
class Model:
    """A chain as a model checker has it: states by number, every row a law.

    Attributes
    ----------
    P : (n, n)
        Transition chances.
    labels
        Label -> its states, in order. A node's label is its name, see `Model.of`.
    """

    P: sparse.csr_array
    labels: dict[str, list[int]]

    @classmethod
    def of(cls, chain: Chain) -> Model:
        """Return a chain as a model; the node's states come first, in the chain's order."""
        n = len(chain.names)
        stops, begin = bool(chain.stop.any()), np.flatnonzero(chain.start)
        spread = len(begin) != 1 or chain.start[begin[0]] != 1.0
        size, first = n + stops + spread, n + stops
        rows, columns, values = chain.arrows()
        parts = [(rows, columns, values)]
        labels: dict[str, list[int]] = {INIT: [first if spread else int(begin[0])], DEADLOCK: []}
        if stops:
            stopping = np.flatnonzero(chain.stop)
            parts.append((stopping, np.full(len(stopping), n), chain.stop[stopping]))
            parts.append((np.array([n]), np.array([n]), np.ones(1)))
            labels[LAST] = [n]
        if spread:
            parts.append((np.full(len(begin), first), begin, chain.start[begin]))
            labels[FIRST] = [first]
        i, j, p = (np.concatenate(column) for column in zip(*parts, strict=True))
        P = sparse.csr_array((p, (i, j)), shape=(size, size))
        P.sort_indices()
        return cls(P, labels | {named(name): [k] for k, name in enumerate(chain.names)})

    def chain(self, origin: str) -> Chain:
        """Return the chain that a model is: see `read_chain`."""
        n = self.P.shape[0]
        of: list[list[str]] = [[] for _ in range(n)]
        for label, states in self.labels.items():
            for k in states:
                of[k].append(label)
        lengths = np.diff(self.P.indptr)
        rows = np.repeat(np.arange(n), lengths)
        # States without an arrow, and those that a checker labels as such and lets stay, are where runs stop.
        stays = (lengths == 0) | ((lengths == 1) & (self.P.diagonal() == 1.0))
        begin = self.labels.get(INIT, [])
        last = self._only(LAST, of, begin)
        if last is not None and not stays[last]:
            last = None
        first = self._only(FIRST, of, [])
        if first is not None and (begin != [first] or first in self.P.indices):
            first = None
        keep = np.array([k for k in range(n) if k not in (last, first)], np.int64)
        if not len(keep):
            raise ChainError(f"{origin}: a chain needs at least one node")
        dead = set(self.labels.get(DEADLOCK, ()))
        stop = np.array([1.0 if stays[k] and (k in dead or not lengths[k]) else 0.0 for k in range(n)])
        data = np.where(stop[rows] > 0, 0.0, self.P.data)
        if last is not None:
            ends = self.P.indices == last
            stop[rows[ends]] = self.P.data[ends]
        P = sparse.csr_array((data, self.P.indices, self.P.indptr), shape=(n, n))[keep][:, keep]
        law = np.zeros(n)
        if first is not None:
            some = rows == first
            law[self.P.indices[some]] = self.P.data[some]
            if last is not None and law[last]:
                raise ChainError(f"{origin}: some runs end before they start: the start state leads to the end")
        elif begin:
            law[begin] = 1.0 / len(begin)
        names = _names(of, self.labels, keep.tolist())
        start = None if not law.any() else dict(zip(names, law[keep].tolist(), strict=True))
        try:
            return Chain.from_matrix(P, names, start, stop=stop[keep])
        except ChainError as error:
            raise ChainError(f"{origin}: {error}") from None

    def _only(self, label: str, of: Sequence[Sequence[str]], begin: Sequence[int]) -> int | None:
        """Return the state of a label of ours: the only one, that is no node and where no run starts."""
        states = self.labels.get(label, [])
        if len(states) != 1 or states[0] in begin or not set(of[states[0]]) <= set(RESERVED):
            return None
        return states[0]


def _names(of: Sequence[Sequence[str]], labels: dict[str, list[int]], keep: Sequence[int]) -> list[str]:
    """Return the states' names: the first label that is a state's own, else its number."""
    known = [next((node(x) for x in of[k] if x not in RESERVED and len(labels[x]) == 1), None) for k in keep]
    taken = {END, *known}
    names = []
    for k, name in zip(keep, known, strict=True):
        if name is None or name == END:
            name = str(k)
            while name in taken:
                name += "'"
            taken.add(name)
        names.append(name)
    return names


def named(name: str) -> str:
    """Return the label of a node: its name, in braces where that is a label with a meaning of its own.

    Examples
    --------
    >>> named("ship"), named("init"), node("{init}")
    ('ship', '{init}', 'init')
    """
    return f"{{{name}}}" if name.strip("{}") in (*RESERVED, "") else name


def node(label: str) -> str:
    """Return the node of a label."""
    return label[1:-1] if label.strip("{}") in (*RESERVED, "") and label[:1] == "{" and label[-1:] == "}" else label


@dataclass
class Transitions:
    """Transitions as they are read, checked one by one; `fail` raises a ChainError with file and line."""

    origin: str
    states: int
    rows: array[int] = field(default_factory=lambda: array("q"))
    columns: array[int] = field(default_factory=lambda: array("q"))
    values: array[float] = field(default_factory=lambda: array("d"))

    def __post_init__(self) -> None:
        if self.states > MOST:
            raise ChainError(f"{self.origin}: more states than the {MOST:,} that can be read")

    def add(self, line: int, row: int, column: str, chance: str) -> None:
        """Add a transition."""
        try:
            target, value = int(column), share(chance)
        except (ValueError, ArithmeticError):
            raise self.error(line, f"not a transition: {shown(f'{column} : {chance}', 80)!r}") from None
        if not (0 <= row < self.states and 0 <= target < self.states):
            odd = target if 0 <= row < self.states else row
            raise self.error(line, f"a state {shown(str(odd))}, but states are numbered from 0 to {self.states - 1}")
        if not 0 <= value <= 1 + ROW_SLACK:
            raise self.error(line, f"{shown(chance)} is no probability")
        self.rows.append(row)
        self.columns.append(target)
        self.values.append(value)

    def error(self, line: int, what: str) -> ChainError:
        """Return an error at a line."""
        return ChainError(f"{self.origin}:{line}: {what}")

    def matrix(self) -> sparse.csr_array:
        """Return the transition matrix; rows that are neither empty nor laws are an error."""
        rows, columns = (
            np.frombuffer(a, np.int64) if len(a) else np.zeros(0, np.int64) for a in (self.rows, self.columns)
        )
        values: npt.NDArray[np.float64] = np.frombuffer(self.values, np.float64) if len(rows) else np.zeros(0)
        matrix = sparse.csr_array((values, (rows, columns)), shape=(self.states, self.states))
        if matrix.nnz < len(values):
            pair = np.sort(rows * self.states + columns)
            twice = int(pair[:-1][pair[1:] == pair[:-1]][0])
            i, j = divmod(twice, self.states)
            raise ChainError(f"{self.origin}: the transition from {i} to {j} is there twice")
        matrix.sort_indices()
        matrix.eliminate_zeros()
        sums: npt.NDArray[np.float64] = np.asarray(matrix.sum(axis=1)).ravel()
        off = np.where(np.diff(matrix.indptr) == 0, 0.0, np.abs(sums - 1))
        if self.states and off.max() > ROW_SLACK:
            worst = int(np.argmax(off))
            raise ChainError(f"{self.origin}: the transitions from state {worst} sum to {sums[worst]:.17g}, not to 1")
        return matrix


def share(text: str) -> float:
    """Return a number as model checkers write it: `0.25`, `1e-3` or `1/4`.

    Raises
    ------
    ValueError, ArithmeticError
        If it is none, or a quotient with a part that is too large, or 0 below.
    """
    if "/" in text:
        above, below = text.split("/")
        return float(fraction(above.strip()) / fraction(below.strip()))
    return float(text)


def fraction(text: str) -> Fraction:
    """Return a number as it is written, exactly; 0 for one so small that no float is as small.

    A `Fraction` of 1e-99999999 has a hundred million digits: Python would be at it for minutes.

    Raises
    ------
    ValueError
        If it is no number.
    OverflowError
        If it is far larger than any float.
    ZeroDivisionError
        For `1/0`.

    Examples
    --------
    >>> fraction("0.1"), fraction("1/3"), fraction("1e-99999999")
    (Fraction(1, 10), Fraction(1, 3), Fraction(0, 1))
    """
    digits, power, exponent = text.lower().partition("e")
    if not power or abs(int(exponent)) <= POWER:
        return Fraction(text)
    if Fraction(digits) and int(exponent) > 0:
        raise OverflowError(f"{shown(text)} is too large")
    return Fraction(0)


def numbered(file: TextIO) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file that are not empty, stripped, with their numbers from 1."""
    for number, line in enumerate(file, 1):
        line = line.strip()
        if line:
            yield number, line
