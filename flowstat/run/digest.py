"""A digest of a value: equal for equal values in any process, whatever the interpreter's hash seed."""

from __future__ import annotations

import copyreg
from hashlib import blake2b
from typing import Any

from flowstat.errors import RunError

__all__ = ["digest"]


def digest(value: object) -> str:
    """Return the digest of a value: 32 hexadecimal digits.

    Numbers, texts, bytes, None, lists, tuples, dicts (in their order), sets (in any), classes and functions by their
    names, and every object that pickle can take apart. An object that is met again counts as the same object, so that
    values which hold themselves have a digest too.

    Raises
    ------
    RunError
        For a value that can't be taken apart, such as an open file, a lock or a generator, or that is nested deeply
        (some hundred times).

    Examples
    --------
    >>> digest({"a": {1, 2}}) == digest({"a": {2, 1}})
    True
    >>> digest([1]) == digest([1.0]), digest([1]) == digest((1,))
    (False, False)
    """
    hashed = blake2b(digest_size=16)
    try:
        _feed(value, hashed, {})
    except RecursionError:
        raise RunError(
            f"a value of type {type(value).__name__} has no digest: it is nested too deeply, or holds itself in a set; "
            "keep flatter data in a state or a body"
        ) from None
    return hashed.hexdigest()


def _feed(value: Any, hashed: blake2b, seen: dict[int, tuple[int, object]]) -> None:
    kind = type(value)
    if value is None or kind in (bool, int, float, complex):
        _write(hashed, kind.__name__, repr(value).encode())
        return
    if kind is str:
        _write(hashed, "str", value.encode("utf-8", "surrogatepass"))
        return
    if kind in (bytes, bytearray):
        _write(hashed, kind.__name__, bytes(value))
        return
    if isinstance(value, type) or (kind.__name__ in ("function", "builtin_function_or_method")):
        _write(hashed, "name", f"{value.__module__}.{value.__qualname__}".encode())
        return
    known = seen.get(id(value))
    if known is not None:
        _write(hashed, "again", str(known[0]).encode())
        return
    # Kept, so that no other object takes its place in memory meanwhile.
    seen[id(value)] = len(seen), value
    if kind in (list, tuple):
        _write(hashed, kind.__name__, str(len(value)).encode())
        parts = value
    elif kind is dict:
        _write(hashed, "dict", str(len(value)).encode())
        parts = [part for item in value.items() for part in item]
    elif kind in (set, frozenset):
        _write(hashed, kind.__name__, "".join(sorted(map(digest, value))).encode())
        return
    else:
        _write(hashed, "object", f"{kind.__module__}.{kind.__qualname__}".encode())
        parts = _taken_apart(value)
    for part in parts:
        _feed(part, hashed, seen)


def _taken_apart(value: Any) -> list[object]:
    """Return what makes an object, as pickle does."""
    try:
        reduce = copyreg.dispatch_table.get(type(value))
        made = reduce(value) if reduce else value.__reduce_ex__(4)
    except RecursionError:
        raise
    except Exception as error:
        raise RunError(
            f"a {type(value).__name__} has no digest: {error}; keep plain data in a state or a body"
        ) from None
    if isinstance(made, str):
        return [made]
    _, args, *rest = made
    state, items, pairs = (*rest, None, None, None)[:3]
    return [args, state, list(items or ()), list(pairs or ())]


def _write(hashed: blake2b, kind: str, data: bytes) -> None:
    hashed.update(f"{kind} {len(data)} ".encode())
    hashed.update(data)
