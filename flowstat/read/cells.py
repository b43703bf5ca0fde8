"""Columns of foreign tables as columns of spans: ids as texts, words as dictionaries, statuses, services of pods."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flowstat.read.canonical import STATUSES
from flowstat.read.columns import ERROR_WORDS, OK_WORDS, ROOT_WORDS

__all__ = [
    "WORD",
    "Unreadable",
    "are_texts",
    "codes",
    "combine",
    "decoded",
    "ids",
    "parents",
    "pod_service",
    "statuses",
    "translate",
    "valid_text",
    "words",
    "zeros",
]

WORD: Final = pa.dictionary(pa.int32(), pa.string())

# A pod of a Deployment is named by its ReplicaSet's hash and one of its own, both from Kubernetes' safe alphabet (the
# ReplicaSet's was a decimal number once); a pod of a StatefulSet by a number.
_pod = re.compile(r"(.+?)-(?:[bcdfghjklmnpqrstvwxz2456789]{5,10}|[0-9]{6,10})-[bcdfghjklmnpqrstvwxz2456789]{5}")
_ordinal = re.compile(r"(.+?)-[0-9]{1,5}")

_decimal = re.compile(r"([0-9]+)\.0+")


class Unreadable(Exception):
    """A column's type can't be what it is taken for."""


def decoded(column: pa.Array) -> pa.Array:
    """Return bytes as the text that they may be, which is not looked at: see `valid_text`; other columns as they are.

    Programs that don't say that a column of a Parquet file is text write bytes. Those of one fixed size are none.
    """
    kind = column.type
    if pa.types.is_dictionary(kind) and _is_bytes(kind.value_type):
        column = column.cast(kind.value_type)
    if not _is_bytes(column.type):
        return column
    return column.view(pa.large_string() if pa.types.is_large_binary(column.type) else pa.string())


def are_texts(column: pa.Array) -> bool:
    """Whether a column of bytes holds nothing but printable text."""
    texts, broken = valid_text(decoded(column))
    return broken is None and pc.all(pc.utf8_is_printable(texts)).as_py() is not False


def words(column: pa.Array) -> pa.DictionaryArray:
    """Return a column of any plain type as a dictionary of texts; bytes are UTF-8, or of fixed size hexadecimal digits.

    Raises
    ------
    Unreadable
        If the type is nested or the text is not UTF-8.
    """
    column = decoded(column)
    kind = column.type
    if pa.types.is_dictionary(kind):
        dictionary = _texts(column.dictionary)
        if kind != WORD:
            column = pa.DictionaryArray.from_arrays(column.indices.cast(pa.int32()), dictionary)
        return column.cast(pa.string()).dictionary_encode() if dictionary.null_count else column
    return _texts(column).dictionary_encode()


def ids(column: pa.Array) -> pa.Array:
    """Return a column of ids as texts: whole numbers in decimal, bytes in hexadecimal digits.

    Raises
    ------
    Unreadable
        If the type is nested or the text is not UTF-8.
    """
    return _texts(column)


def parents(column: pa.Array) -> pa.Array:
    """Return a column of parents' ids as texts, null where they say that there is no parent.

    Raises
    ------
    Unreadable
        If the type is nested or the text is not UTF-8.
    """
    column = _texts(column)
    return pc.if_else(pc.is_in(column, _roots()), pa.scalar(None, pa.string()), column)


def valid_text(column: pa.Array) -> tuple[pa.Array, np.ndarray | None]:
    """Return a column with null for text that is not UTF-8, and which rows those are, if any."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        dictionary, broken = valid_text(column.dictionary)
        if broken is None:
            return column, None
        rows = np.append(broken, False)[codes(column)]
        return pa.DictionaryArray.from_arrays(column.indices, dictionary).cast(pa.string()), rows
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return column, None
    try:
        column.validate(full=True)
        return column, None
    except pa.ArrowInvalid:
        octets = column.cast(pa.large_binary()).to_pylist()
    texts = [None if text is None else text.decode(errors="ignore") for text in octets]
    broken = np.array([text is not None and text.encode() != found for text, found in zip(texts, octets, strict=True)])
    return pa.array(texts, kind, mask=broken), broken


def zeros(column: pa.Array) -> pa.Array:
    """Return whether each id is zeros only: which means that there is none."""
    return pc.is_in(column, _zeros())


def translate(column: pa.DictionaryArray, meaning: Callable[[str], str]) -> pa.DictionaryArray:
    """Return a dictionary column with each word replaced by its meaning; nulls stay."""
    new = pa.array([meaning(word) for word in column.dictionary.to_pylist()], pa.string()).dictionary_encode()
    indices = new.indices.take(column.indices)
    return pa.DictionaryArray.from_arrays(indices, new.dictionary)


def statuses(column: pa.DictionaryArray) -> tuple[pa.DictionaryArray, set[str]]:
    """Return a column of status words as `ok`, `error`, `dropped` or `pending`, and the words that are none.

    A null is ok, and so is a word that is none. Codes may be decimals (`2.0`), as pandas makes them beside nulls.
    """
    unknown: set[str] = set()

    def meaning(word: str) -> str:
        plain = word.strip().lower()
        if found := _decimal.fullmatch(plain):
            plain = found[1]
        if plain in STATUSES:
            return plain
        if plain in ERROR_WORDS:
            return "error"
        if plain not in OK_WORDS:
            unknown.add(word)
        return "ok"

    column = translate(column, meaning)
    if column.null_count:
        texts = column.cast(pa.string()).fill_null("ok")
        column = texts.dictionary_encode()
    return column, unknown


def pod_service(pod: str) -> str:
    """Return the service that a Kubernetes pod runs: its name without those of its ReplicaSet and its own.

    Examples
    --------
    >>> pod_service("frontend-579b9bff58-t2dbm")
    'frontend'
    >>> pod_service("kafka-0")
    'kafka'
    """
    found = _pod.fullmatch(pod) or _ordinal.fullmatch(pod)
    return found[1] if found else pod


def codes(column: pa.DictionaryArray) -> np.ndarray:
    """Return a dictionary column's codes; a null has the code after the last word's."""
    indices = column.indices
    if indices.null_count:
        indices = indices.fill_null(len(column.dictionary))
    numbers: np.ndarray = indices.to_numpy()
    return numbers


def combine(
    parts: Sequence[pa.DictionaryArray], make: Callable[[tuple[str | None, ...]], str | None]
) -> pa.DictionaryArray:
    """Return what is made of each row's words: once for each combination of words that there is.

    Parameters
    ----------
    parts
        At least one column; all are of one length.
    """
    code = np.zeros(len(parts[0]), np.int64)
    size = 1
    for part in parts:
        step = len(part.dictionary) + 1  # the null is one more
        if size * step >= 2**62:
            present, code = np.unique(code, return_inverse=True)
            size = len(present)
        code = code * step + codes(part)
        size *= step
    _, first, inverse = np.unique(code, return_index=True, return_inverse=True)
    listed = [part.take(pa.array(first)).cast(pa.string()).to_pylist() for part in parts]
    made = pa.array([make(words) for words in zip(*listed, strict=True)], pa.string()).dictionary_encode()
    return pa.DictionaryArray.from_arrays(made.indices.take(pa.array(inverse)), made.dictionary)


@cache
def _zeros() -> pa.Array:
    # Made when first needed: the first array of a process takes pyarrow a while.
    return pa.array(["0" * width for width in range(1, 65)])


@cache
def _roots() -> pa.Array:
    cased = {change(word) for word in ROOT_WORDS for change in (str.lower, str.upper, str.title)}
    return pa.concat_arrays([_zeros(), pa.array(sorted(cased))])


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _texts(column: pa.Array) -> pa.Array:
    kind = column.type
    try:
        if pa.types.is_floating(kind):
            # Whole numbers beside a null, as pandas writes them.
            column = pc.if_else(pc.is_nan(column), pa.scalar(None, kind), column)
            whole = pc.equal(pc.floor(column), column).fill_null(True)
            column = column.cast(pa.int64()) if pc.all(whole).as_py() is not False else column
        elif pa.types.is_fixed_size_binary(kind) or _is_bytes(kind):
            return _hexadecimal(column)
        elif pa.types.is_nested(kind):
            raise Unreadable(f"its type is {kind}")
        if column.type != pa.string():
            column = column.cast(pa.string())
        column.validate(full=True)  # Parquet files can hold text that is not UTF-8
    except pa.ArrowException as error:
        raise Unreadable(str(error).split("\n", 1)[0]) from None
    return column


def _hexadecimal(column: pa.Array) -> pa.Array:
    """Return bytes as lower-case hexadecimal digits, all at once."""
    whole = column.cast(pa.large_binary())
    ends = np.frombuffer(whole.buffers()[1], np.int64)[whole.offset : whole.offset + len(whole) + 1]
    data = whole.buffers()[2]
    digits = data.to_pybytes()[int(ends[0]) : int(ends[-1])].hex().encode() if data is not None else b""
    buffers = [None, pa.py_buffer(2 * (ends - ends[0])), pa.py_buffer(digits)]
    made = pa.Array.from_buffers(pa.large_string(), len(whole), buffers)
    return pc.if_else(pc.is_valid(column), made, pa.scalar(None, pa.large_string())).cast(pa.string())
