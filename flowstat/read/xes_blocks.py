"""Plain XES at the speed of a scan: the text between the values of attributes repeats, so each is understood once.

In a block of whole traces the values of attributes are what stands between quotes after `value=`. The pieces of text
between one value and the next, such as `"/></event><event><string key="concept:name" value="`, are few: they are put
in a dictionary, each is parsed by a strict grammar, and the rest is arithmetic on their codes. Where a piece is
anything else (a comment, nested attributes, other quotes, another order), or the pieces don't nest, the block is not
plain, and an XML parser has to read it (`flowstat.read.xes`). So it is where a value, wanted or not, has a character or
a reference that XML refuses: all that is ill-formed is left to the parser.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple
from xml.parsers import expat

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["Events", "plain_events"]

PIECES = 4096
"""Distinct pieces in a block beyond which it is not plain: each is parsed in Python."""

LOG, TRACE, EVENT = range(3)

_blank = r"[ \t\r\n]"
_piece = re.compile(
    rf"(?P<close>{_blank}*(?:/>|>{_blank}*</(?P<closed>[A-Za-z]+){_blank}*>))?"
    rf"(?P<structure>(?:{_blank}*</?(?:trace|event){_blank}*>)*){_blank}*"
    rf'(?P<open><(?P<opened>[A-Za-z]+){_blank}+key="(?P<key>[^"<&\x00-\x1f]*)"{_blank}+value=")?'
)
_tag = re.compile(r"</?(?:trace|event)")
_special = r"[&<\x00-\x1f]"
_reference = re.compile(rb"&[^&;]{1,20};")

# What XML can't hold: characters, and two more in UTF-8.
_NEVER = bytes(c for c in range(32) if c not in b"\t\n\r")
_NEVER_CHARACTERS = (b"\xef\xbf\xbe", b"\xef\xbf\xbf")

# What a tag leads to: from which level, to which.
_STEPS = {"<trace": (LOG, TRACE), "</trace": (TRACE, LOG), "<event": (TRACE, EVENT), "</event": (EVENT, TRACE)}


@dataclass(frozen=True)
class Events:
    """Events of whole traces, as texts.

    Attributes
    ----------
    cases
        The names of the traces, null where there is none.
    case_of
        For each event the index of its trace.
    values
        For each key that was asked for the events' values, null where there is none.
    """

    cases: pa.Array
    case_of: np.ndarray
    values: dict[str, pa.Array]


class _Piece(NamedTuple):
    """What a piece of text says, given that it is one of the grammar."""

    closes: bool
    """Whether it ends an attribute."""
    opened: str | None
    """The element whose value comes next, None at the end."""
    closed: str | None
    """The element that it ends by an end tag."""
    key: str
    before: int
    """The level it has to stand on, -1 if on any."""
    after: int
    """The level it leads to, -1 if to the same."""
    traces: int
    events: int
    tags: int
    """How many tags it has."""
    blanks: int
    """Tabs and line ends in it, which values don't have as they are."""


def plain_events(block: bytes, case: str, keys: Sequence[str]) -> Events | None:
    """Return the events of a block of whole traces, or None if it is not plain.

    Parameters
    ----------
    block
        From a start tag of a trace to an end tag of one, in UTF-8.
    case
        The key of the attribute of traces that names them.
    keys
        Of the attributes of events that are wanted. Where one comes twice in an event, the last counts.
    """
    if not block.isascii():
        try:
            block.decode()
        except UnicodeDecodeError:
            return None
        if any(never in block for never in _NEVER_CHARACTERS):
            return None
    octets = np.frombuffer(block, np.uint8)
    quotes = np.flatnonzero(octets == ord('"')).astype(np.int32)
    if len(quotes) % 2 or not len(quotes) or quotes[0] < 2:
        return None
    # Of `key=` and `value=` only the latter has an e before its sign; the grammar sees what it really is.
    values = octets[quotes[0::2] - 2] == ord("e")
    n = int(values.sum())
    ends = np.empty(2 * n + 2, np.int32)
    ends[0], ends[-1] = 0, len(block)
    ends[1:-1:2] = quotes[0::2][values] + 1
    ends[2:-1:2] = quotes[1::2][values]
    texts = pa.Array.from_buffers(pa.string(), 2 * n + 1, [None, pa.py_buffer(ends), pa.py_buffer(block)])
    # The quote that ends a value begins the piece after it.
    pieces = texts.take(pa.array(np.arange(0, 2 * n + 1, 2, dtype=np.int32))).dictionary_encode()
    if len(pieces.dictionary) > PIECES:
        return None
    kinds = [kind for text in pieces.dictionary.to_pylist() if (kind := _parse(text))]
    codes = pieces.indices.to_numpy()
    numbers = np.bincount(codes, minlength=len(pieces.dictionary))
    if len(kinds) < len(numbers) or not _follow(codes, numbers, kinds):
        return None
    tags, controls = np.count_nonzero(octets == ord("<")), np.count_nonzero(octets < 32)
    escaped = b"&" in block or controls != (numbers * [k.blanks for k in kinds]).sum()
    if tags != (numbers * [k.tags for k in kinds]).sum() or (escaped and not _is_well_formed(block)):
        return None
    try:
        return _events(texts, codes, kinds, case, keys, escaped)
    except expat.ExpatError:
        return None


@lru_cache(maxsize=4 * PIECES)
def _parse(text: str) -> _Piece | None:
    """Return what a piece says; None if it is none of the grammar."""
    ends = text.startswith('"')
    found = _piece.fullmatch(text, 1 if ends else 0)
    if found is None or (found["close"] is not None) != ends:
        return None
    before = after = -1
    traces = events = 0
    for tag in _tag.findall(found["structure"]):
        origin, target = _STEPS[tag]
        if after not in (-1, origin):
            return None
        before = origin if before < 0 else before
        after = target
        traces += tag == "<trace"
        events += tag == "<event"
    if events > 1 or (events and after != EVENT):
        return None  # an event without attributes
    opened = found["opened"]
    if opened in ("trace", "event", "log"):
        return None
    tags, blanks = text.count("<"), sum(c < " " for c in text)
    return _Piece(ends, opened, found["closed"], found["key"] or "", before, after, traces, events, tags, blanks)


def _is_well_formed(block: bytes) -> bool:
    """Whether there are only characters and references that XML allows."""
    if len(block.translate(None, _NEVER)) < len(block):
        return False
    references = _reference.findall(block)
    if len(references) < block.count(b"&"):
        return False
    try:
        _meant(b"".join(set(references)).decode())
    except (expat.ExpatError, UnicodeDecodeError):
        return False
    return True


def _follow(codes: np.ndarray, numbers: np.ndarray, kinds: list[_Piece]) -> bool:
    """Whether the pieces follow each other as elements do: each value in an attribute that ends, on its level."""
    first, last = kinds[codes[0]], kinds[codes[-1]]
    if first.closes or last.opened is not None or first.after < 0:
        return False
    # Each piece but the first ends an attribute, each but the last begins one.
    if numbers[[not k.closes for k in kinds]].sum() > 1 or numbers[[k.opened is None for k in kinds]].sum() > 1:
        return False
    if any(k.closed for k in kinds):
        tags = {tag: code for code, tag in enumerate({k.opened for k in kinds} | {k.closed for k in kinds})}
        closed = np.array([tags[k.closed] if k.closed else -1 for k in kinds])[codes]
        opened = np.array([tags[k.opened] for k in kinds])[codes]
        if ((closed[1:] >= 0) & (closed[1:] != opened[:-1])).any():
            return False
    level = _levels(codes, kinds)
    before = np.array([k.before for k in kinds], np.int8)[codes]
    fits = (before[1:] < 0) | (before[1:] == level[:-1])
    return bool(first.before == LOG and fits.all() and level[-1] == LOG and (level[:-1] != LOG).all())


def _levels(codes: np.ndarray, kinds: list[_Piece]) -> np.ndarray:
    """Return the level after each piece: the one that the last piece with a tag of it led to."""
    after = np.array([k.after for k in kinds], np.int8)[codes]
    places = np.maximum.accumulate(np.where(after >= 0, np.arange(len(codes), dtype=np.int32), 0))
    levels: np.ndarray = after[places]
    return levels


def _events(
    texts: pa.Array, codes: np.ndarray, kinds: list[_Piece], case: str, keys: Sequence[str], escaped: bool
) -> Events:
    starts = np.array([k.events for k in kinds], np.int32)[codes]
    traces = np.cumsum(np.array([k.traces for k in kinds], np.int32)[codes])
    events = np.cumsum(starts)
    level = _levels(codes, kinds)

    def taken(key: str, on: int, owners: np.ndarray) -> pa.Array:
        """The values of a key on a level, each at the place of its owner; of several the last."""
        at = np.flatnonzero(np.array([k.key == key for k in kinds])[codes] & (level == on))
        places = np.full(int(owners[-1]), -1, np.int32)
        places[owners[at] - 1] = 2 * at + 1
        missing = places < 0
        values = texts.take(pa.array(places, mask=missing if missing.any() else None))
        return _unescaped(values) if escaped else values

    cases = taken(case, TRACE, traces)
    return Events(cases, traces[starts > 0] - 1, {key: taken(key, EVENT, events) for key in keys})


def _unescaped(values: pa.Array) -> pa.Array:
    """Return values of attributes as XML means them."""
    if not pc.any(pc.match_substring_regex(values, _special)).as_py():
        return values
    words = values.dictionary_encode()
    return pa.array([_meant(word) for word in words.dictionary.to_pylist()], pa.string()).take(words.indices)


def _meant(value: str) -> str:
    found: list[str] = []
    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler = lambda tag, attributes: found.append(attributes["v"])
    parser.Parse(f'<a v="{value}"/>'.encode(), True)
    return found[0]
