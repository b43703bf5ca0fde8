"""Messages as they travel through a broker: many in one body between flowstat workers, or one by one, readable by all.

One by one, a message is what any program sends: a body of JSON, text or bytes with its content type, a `message_id`,
and the header `traceparent` of W3C Trace Context; the headers `flowstat-source`, `-sent-at`, `-tried` and `-again` say
what flowstat adds. Many in one body have one source and key; their content type is `application/x-flowstat+msgpack`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from math import isfinite
from os import urandom
from typing import Annotated, Any, NamedTuple

import msgspec
import orjson
from msgspec import Meta

from flowstat.run.amqp_names import LONGEST_KEY

__all__ = ["PARCEL", "Letter", "Parcel", "Refused", "Wire", "in_parcels", "pack", "read", "span_of", "unpack", "write"]

PARCEL = "application/x-flowstat+msgpack"
VERSION = 1

BYTES = 1 << 20
"""Bytes of bodies after which a parcel is full."""

MOST_BYTES = 16_000_000
"""Bytes of one body: a RabbitMQ takes 16 MiB unless told otherwise, and ends the connection at more."""

MORE = 65_536
"""Bytes that a parcel of one message may have beside its body."""

_traceparent = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")

_encode = msgspec.msgpack.Encoder().encode
_decode_body = msgspec.msgpack.Decoder().decode


class Letter(msgspec.Struct, array_like=True):
    """One message under way: its id, the run, the event that sent it (None: injected), how often its node failed on it,
    when it was sent in nanoseconds since 1970, and its body in MessagePack.
    """

    id: str
    trace: Annotated[str, Meta(min_length=32, max_length=32)]
    parent: Annotated[str, Meta(min_length=16, max_length=16)] | None
    tried: Annotated[int, Meta(ge=0, lt=2**31)]
    sent_at: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None
    body: msgspec.Raw


class Parcel(msgspec.Struct, array_like=True):
    """Messages of one node (None: injected) with one key; `again` says that they may have come before."""

    version: int
    source: str | None
    key: str
    again: bool
    letters: Annotated[list[Letter], Meta(min_length=1)]


class Wire(NamedTuple):
    """What an AMQP message is made of."""

    body: bytes
    content_type: str | None
    message_id: str | None
    headers: Mapping[str, Any]
    key: str = ""
    content_encoding: str | None = None


class Refused(Exception):
    """A body can't be read; says why."""


_decode = msgspec.msgpack.Decoder(Parcel).decode


def pack(body: object) -> msgspec.Raw:
    """Return a body in MessagePack.

    Raises
    ------
    TypeError, ValueError, OverflowError
        If it can't be sent to another process as it is, or is too large.

    Examples
    --------
    >>> unpack(pack({"n": [1, 2.5, None, b"x"]}))
    {'n': [1, 2.5, None, b'x']}
    >>> pack((1, 2))
    Traceback (most recent call last):
    TypeError: a body for other processes is made of None, truth values, numbers, texts, bytes, lists and dicts with \
text keys, not tuple
    """
    try:
        _check(body)
        made = _encode(body)
    except RecursionError:
        raise ValueError("a body for other processes is not nested so deep, nor a part of itself") from None
    if len(made) > MOST_BYTES:
        raise ValueError(f"a body of {len(made):,} bytes: {MOST_BYTES:,} at most go through a broker; send where it is")
    return msgspec.Raw(made)


def unpack(body: msgspec.Raw) -> Any:
    """Return a body."""
    return _decode_body(body)


def _check(value: object) -> None:
    kind = type(value)
    if value is None or kind in (str, int, float, bool, bytes):
        return
    if kind is list:
        for item in value:  # type: ignore[attr-defined]
            _check(item)
    elif kind is dict and all(type(key) is str for key in value):  # type: ignore[attr-defined]
        for item in value.values():  # type: ignore[attr-defined]
            _check(item)
    else:
        raise TypeError(
            "a body for other processes is made of None, truth values, numbers, texts, bytes, lists and dicts with "
            f"text keys, not {kind.__name__}"
        )


def span_of(message: str, node: str) -> str:
    """Return the id of the event that handles a message at a node, the same wherever that is."""
    return blake2b(f"{message}\0{node}".encode(), digest_size=8).hexdigest()


def in_parcels(source: str | None, key: str, again: bool, letters: Iterable[Letter], most: int) -> list[Parcel]:
    """Return messages of one source and key in parcels of so many at most, and of about a megabyte."""
    made: list[Parcel] = []
    size = 0
    for letter in letters:
        length = len(memoryview(letter.body))
        if not made or len(made[-1].letters) >= most or size + length > BYTES:
            made.append(Parcel(VERSION, source, key, again, []))
            size = 0
        made[-1].letters.append(letter)
        size += length
    return made


def write(parcel: Parcel, single: bool) -> Wire:
    """Return a parcel as an AMQP message; `single`: as any program would send its one message, if its body allows."""
    first = parcel.letters[0]
    alone = len(parcel.letters) == 1
    headers: dict[str, Any] = {}
    if alone:
        # An injected message has no event before it: its own id stands there.
        headers["traceparent"] = f"00-{first.trace}-{first.parent or span_of(first.id, '')}-01"
    plain = _plain(first.body) if alone and single else None
    if plain is None:
        name = first.id if alone and len(first.id.encode()) <= LONGEST_KEY else urandom(16).hex()
        return Wire(_encode(parcel), PARCEL, name, headers, parcel.key)
    if parcel.source is not None:
        headers["flowstat-source"] = parcel.source
    if first.sent_at is not None:
        headers["flowstat-sent-at"] = first.sent_at
    if first.tried:
        headers["flowstat-tried"] = first.tried
    if parcel.again:
        headers["flowstat-again"] = True
    return Wire(plain[0], plain[1], first.id, headers, parcel.key)


def read(wire: Wire) -> Parcel:
    """Return the messages of an AMQP message, of whatever program.

    A foreign message starts a run: the one of its `traceparent`, if it has one. Without a message id it can't be
    recognised when it comes again.

    Raises
    ------
    Refused
        If its body is not what it says it is, or is too large to be sent on.
    """
    if len(wire.body) > MOST_BYTES + MORE:
        raise Refused(f"a body of {len(wire.body):,} bytes: {MOST_BYTES:,} at most can be sent on")
    if wire.content_type == PARCEL:
        try:
            parcel = _decode(wire.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Refused(f"not a body of flowstat: {error}") from None
        if parcel.version != VERSION:
            raise Refused(f"a body of version {parcel.version} of flowstat's: this is version {VERSION}")
        if len(parcel.key.encode()) > LONGEST_KEY:
            raise Refused(f"not a body of flowstat: its key has more than {LONGEST_KEY} bytes")
        return parcel
    try:
        body = pack(_plain_body(wire))
    except (ValueError, OverflowError) as error:
        raise Refused(str(error)) from None
    message = wire.message_id or urandom(16).hex()
    found = _traceparent.fullmatch(str(wire.headers.get("traceparent", "")))
    trace = found[1] if found else blake2b(message.encode(), digest_size=16).hexdigest()
    source, sent_at, tried = (wire.headers.get(f"flowstat-{name}") for name in ("source", "sent-at", "tried"))
    ours = isinstance(source, str) and found is not None
    letter = Letter(
        message,
        trace,
        found[2] if ours and found else None,
        tried if ours and type(tried) is int and tried >= 0 else 0,
        sent_at if type(sent_at) is int and 0 <= sent_at < 2**63 else None,
        body,
    )
    return Parcel(VERSION, source if ours else None, wire.key, bool(wire.headers.get("flowstat-again")), [letter])


def _plain(packed: msgspec.Raw) -> tuple[bytes, str] | None:
    """Return a body as any program writes it, with its content type; None if JSON can't hold it."""
    try:
        body = unpack(packed)
        found = _written(body)
    except (ValueError, msgspec.MsgspecError, RecursionError):  # of a program that forges what flowstat writes
        return None
    return found if found is not None and len(found[0]) <= MOST_BYTES else None


def _written(body: object) -> tuple[bytes, str] | None:
    if type(body) is bytes:
        return body, "application/octet-stream"
    if type(body) is str:
        return body.encode(), "text/plain"
    return (orjson.dumps(body), "application/json") if _is_json([body]) else None


def _is_json(values: Iterable[Any]) -> bool:
    for value in values:
        kind = type(value)
        if kind is float:
            if not isfinite(value):
                return False
        elif kind is list:
            if not _is_json(value):
                return False
        elif kind is dict:
            if not _is_json(value.values()) or not all(type(key) is str for key in value):
                return False
        elif value is not None and kind not in (str, int, bool):
            return False
    return True


def _plain_body(wire: Wire) -> object:
    if wire.content_encoding not in (None, "", "utf-8", "identity"):
        raise Refused(f"its content encoding is {wire.content_encoding!r}: send it as it is")
    kind = (wire.content_type or "").partition(";")[0].strip().lower()
    try:
        if kind == "application/json" or kind.endswith("+json"):
            return orjson.loads(wire.body)
        if kind.startswith("text/"):
            return wire.body.decode()
    except (orjson.JSONDecodeError, UnicodeDecodeError) as error:
        raise Refused(f"not {kind}: {error}") from None
    if kind:
        return wire.body
    for attempt in (orjson.loads, bytes.decode):
        try:
            return attempt(wire.body)
        except ValueError:
            pass
    return wire.body
