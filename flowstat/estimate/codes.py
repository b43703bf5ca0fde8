"""Names and send patterns as whole numbers: what a database joins and groups fast, and holds in little memory."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flowstat.read.words import quote

__all__ = ["Codes", "patterns"]


class Codes:
    """Numbers texts 0, 1, 2, ... as they come.

    Parameters
    ----------
    *texts
        Those that come first.
    """

    def __init__(self, *texts: str) -> None:
        self._codes = {text: code for code, text in enumerate(texts)}
        self._dictionary: pa.Array | None = None
        self._of_dictionary = pa.array([], pa.int32())

    def __len__(self) -> int:
        return len(self._codes)

    @property
    def texts(self) -> list[str]:
        """The text of every code."""
        return list(self._codes)

    def ranks(self) -> list[int]:
        """Return every code's place among the codes in the order of their texts."""
        order = sorted(range(len(self._codes)), key=self.texts.__getitem__)
        ranks = [0] * len(order)
        for rank, code in enumerate(order):
            ranks[code] = rank
        return ranks

    def of(self, column: pa.Array) -> pa.Array:
        """Return a column of text, or dictionary of text, as codes (int32); nulls stay null."""
        if not pa.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        # The batches of one file have mostly one dictionary.
        if self._dictionary is None or not column.dictionary.equals(self._dictionary):
            self._dictionary = column.dictionary
            texts = column.dictionary.to_pylist()
            self._of_dictionary = pa.array(
                [None if text is None else self._codes.setdefault(text, len(self._codes)) for text in texts], pa.int32()
            )
        return pc.take(self._of_dictionary, column.indices)


def patterns(children: pa.ListArray, names: list[str]) -> list[str]:
    """Return the send pattern of each list of codes; a null is the empty one.

    The same as `format_pattern` of the names, in a quarter of its time.
    """
    order = sorted(range(len(names)), key=names.__getitem__)
    ranks = np.empty(len(names), np.int64)
    ranks[order] = np.arange(len(names))
    quoted = [quote(names[code]) for code in order]
    filled = children.fill_null(pa.scalar([], children.type)) if children.null_count else children
    codes = filled.flatten().to_numpy(zero_copy_only=False)
    values = ranks[codes].tolist()
    ends = np.cumsum(pc.list_value_length(filled).to_numpy(zero_copy_only=False)).tolist()
    result = []
    at = 0
    for end in ends:
        some = values[at:end]
        at = end
        if len(some) == len(set(some)):
            some.sort()
            result.append(" ".join([quoted[rank] for rank in some]))
        else:
            numbers = Counter(some)
            result.append(" ".join([quoted[r] + (f"*{n}" if n > 1 else "") for r, n in sorted(numbers.items())]))
    return result
