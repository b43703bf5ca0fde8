"""Ids that are whole numbers but were written as decimals.

A column of whole numbers with a gap becomes one of decimals in pandas: `1` becomes `1.0` there and in what it writes,
and no longer is the id `1` of another column. Such ids are whole numbers again here. Beyond 2**53 a decimal has lost
digits, and the id can't be known.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["EXACT", "ROUNDED", "WholeIds", "looks_decimal", "rounded"]

EXACT: Final = 2**53
"""Whole numbers below it are decimals without loss."""

ROUNDED = "was a decimal number and lost digits: ids beyond 2**53 are kept as whole numbers or texts"

_decimal = "^[0-9]+[.]0$"
_power = "^[0-9]([.][0-9]+)?e[+][0-9]+$"
_number = f"{_decimal}|{_power}|^[0-9]+$"


def rounded(column: pa.Array) -> np.ndarray | None:
    """Return which numbers of a column of decimals, if it is one, lost digits as ids."""
    if not pa.types.is_floating(column.type):
        return None
    values = column.cast(pa.float64()).to_numpy(zero_copy_only=False)  # a null is NaN
    lost: np.ndarray = np.abs(values) >= EXACT
    return lost


def looks_decimal(texts: pa.Array) -> bool:
    """Whether some text may be a whole number that was written as a decimal."""
    found = pc.or_(pc.ends_with(texts, ".0"), pc.match_substring(texts, "e+"))
    return bool(pc.any(found).as_py())


class WholeIds:
    """Makes whole numbers of the ids of one table, batch after batch.

    A column's ids that end in `.0` are such numbers if all ids in the first batch that has one are numbers, and for
    spans and their parents those of the other column, too.
    """

    def __init__(self) -> None:
        self._decided: dict[str, bool] = {}

    def read(self, ids: dict[str, pa.Array]) -> tuple[dict[str, pa.Array], dict[str, np.ndarray]]:
        """Return columns of ids, with numbers as whole ones, and which of each column lost digits.

        Parameters
        ----------
        ids
            The texts of `trace_id`, `span_id` and `parent_id`, null where there is none.
        """
        whole: dict[str, pa.Array] = {}
        lost: dict[str, np.ndarray] = {}
        for name, column in ids.items():
            whole[name] = column
            if looks_decimal(column) and self._is_whole(name, ids):
                whole[name] = pc.replace_substring_regex(column, "[.]0$", "")
                lost[name] = _lost(column)
        return whole, lost

    def _is_whole(self, name: str, ids: dict[str, pa.Array]) -> bool:
        if name not in self._decided:
            both = ("span_id", "parent_id")
            self._decided[name] = all(_are_numbers(ids[each]) for each in (both if name in both else (name,)))
        return self._decided[name]


def _are_numbers(column: pa.Array) -> bool:
    return pc.all(pc.match_substring_regex(column, _number)).as_py() is not False


def _lost(column: pa.Array) -> np.ndarray:
    """Return which texts are decimals beyond what a decimal keeps."""
    large = pc.and_(pc.match_substring_regex(column, _decimal), pc.greater_equal(pc.utf8_length(column), 18))
    candidates = np.flatnonzero(pc.or_(large, pc.match_substring_regex(column, _power)).fill_null(False))
    lost = np.zeros(len(column), bool)
    for row, text in zip(candidates.tolist(), column.take(pa.array(candidates)).to_pylist(), strict=True):
        lost[row] = float(text) >= EXACT
    return lost
