"""The numbers of every state: kept as columns, and rows only when they are looked at, since a million take a while."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar, overload

import numpy as np
import numpy.typing as npt

from flowstat.errors import AnalysisError
from flowstat.read.words import shown

__all__ = ["StateRows"]

R = TypeVar("R", covariant=True)


class StateRows(Sequence[R], Generic[R]):
    """A sequence of rows, one a state.

    Parameters
    ----------
    row
        Makes a row of a state's name and one value of each column.
    names
        The states.
    columns
        Arrays of as many values.

    Examples
    --------
    >>> rows = StateRows(lambda name, chance: f"{name}: {chance}", ("a", "b"), np.array([0.5, 1.0]))
    >>> rows[-1], list(rows)
    ('b: 1.0', ['a: 0.5', 'b: 1.0'])
    """

    def __init__(self, row: Callable[..., R], names: tuple[str, ...], *columns: npt.NDArray[Any]) -> None:
        self._row, self._names, self.columns = row, names, columns

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, index: int) -> R: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[R]: ...
    def __getitem__(self, index: int | slice) -> R | Sequence[R]:
        if isinstance(index, slice):
            return StateRows(self._row, self._names[index], *(column[index] for column in self.columns))
        return self._row(self._names[index], *(column[index : index + 1 or None].item() for column in self.columns))

    def __iter__(self) -> Iterator[R]:
        return map(self._row, self._names, *(column.tolist() for column in self.columns))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StateRows):
            return NotImplemented
        if self._names != other._names or len(self.columns) != len(other.columns):
            return False
        return all(map(np.array_equal, self.columns, other.columns))

    def __hash__(self) -> int:
        return hash(self._names)

    def __repr__(self) -> str:
        return f"<{len(self):,} states>"

    def only(self, names: Iterable[str]) -> StateRows[R]:
        """Return the rows of some states, in their order.

        Raises
        ------
        AnalysisError
            If a name is no state's.
        """
        wanted = dict.fromkeys(names)
        places = {name: k for k, name in enumerate(self._names) if name in wanted}
        for name in wanted:
            if name not in places:
                raise AnalysisError(f"no node is called {shown(name)!r}")
        some = np.array([places[name] for name in wanted], np.int64)
        return StateRows(self._row, tuple(wanted), *(column[some] for column in self.columns))

    def largest(self, *columns: int) -> float:
        """Return the largest number in some columns, given by position."""
        return max(float(np.max(self.columns[k], initial=0.0)) for k in columns)
