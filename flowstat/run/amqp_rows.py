"""The rows of a worker's trace, which are its outbox too: a message is handled when its row is written.

A row is a line of canonical JSON Lines, and has one column more, `outbox`: a checksum and, in MessagePack as base64,
what is needed to send the event's messages again, and to handle it again where its node has a state. So one write makes
an event part of the trace and its messages safe, or neither.
"""

from __future__ import annotations

from binascii import Error, a2b_base64, b2a_base64
from typing import Any
from zlib import crc32

import msgspec
import orjson

from flowstat.errors import RunError
from flowstat.run.amqp_core import Emitted, Event, dropped_span
from flowstat.run.amqp_wire import Letter, span_of

__all__ = ["Kept", "Row", "kept_of", "lines_of", "pending_line"]

Row = dict[str, Any]


class Kept(msgspec.Struct, array_like=True):
    """What a row keeps of its event: the message, with its body (nil unless the node has a state) and its node's turn,
    and the emits.
    """

    message: str
    tried: int
    turn: int | None
    body: msgspec.Raw
    emits: list[Emitted]


_NIL = msgspec.Raw(msgspec.msgpack.encode(None))
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Kept).decode


def lines_of(event: Event, worker: str) -> bytes:
    """Return the lines of an event: those of emits that no arrow takes first, so that its own comes last."""
    rows = [
        _row(
            event.letter.trace,
            dropped_span(event, index),
            event.span,
            event.node,
            None,
            key,
            "",
            (event.ended, None, None),
            "dropped",
            worker,
            None,
        )
        for index, key in event.lost
    ]
    letter = event.letter
    kept = _encode(Kept(letter.id, letter.tried, event.turn, _NIL if event.turn is None else letter.body, event.emits))
    rows.append(
        _row(
            letter.trace,
            event.span,
            letter.parent,
            event.source,
            event.node,
            event.key,
            event.sent,
            (letter.sent_at, event.started, event.ended),
            event.status,
            worker,
            f"{crc32(kept):08x}{b2a_base64(kept, newline=False).decode()}",
        )
    )
    return b"".join(map(_line, rows))


def pending_line(letter: Letter, source: str | None, key: str, node: str, worker: str) -> bytes:
    """Return the line of a message that is not handled."""
    times = (letter.sent_at, None, None)
    span = span_of(letter.id, node)
    return _line(_row(letter.trace, span, letter.parent, source, node, key, "", times, "pending", worker, None))


def kept_of(row: Row, place: str) -> Kept:
    """Return what a row keeps; `place` is for messages.

    Raises
    ------
    RunError
        If it is damaged.
    """
    text = row.get("outbox")
    try:
        if not isinstance(text, str):
            raise ValueError("it has no outbox")
        data = a2b_base64(text[8:], strict_mode=True)
        if crc32(data) != int(text[:8], 16):
            raise ValueError("its checksum is wrong")
        return _decode(data)
    except (Error, ValueError, msgspec.MsgspecError) as error:
        raise RunError(f"{place} is damaged: {error}; what it recorded can't be trusted, take the file away") from None


def _row(
    trace: str,
    span: str,
    parent_id: str | None,
    parent: str | None,
    name: str | None,
    key: str | None,
    sent: str,
    times: tuple[int | None, int | None, int | None],
    status: str,
    worker: str,
    outbox: str | None,
) -> Row:
    row = {
        "trace_id": trace,
        "span_id": span,
        "parent_id": parent_id,
        "parent": parent,
        "name": name,
        "key": key,
        "sent": sent,
        "sent_at": times[0],
        "started_at": times[1],
        "ended_at": times[2],
        "status": status,
        "worker": worker,
    }
    if outbox is not None:
        row["outbox"] = outbox
    return row


def _line(row: Row) -> bytes:
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
