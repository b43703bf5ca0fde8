"""What lies in a graph's dead-letter queue."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowstat.run.amqp_link import Link, wire_of
from flowstat.run.amqp_locks import Lock
from flowstat.run.amqp_result import DeadLetter
from flowstat.run.amqp_wire import Refused, read

if TYPE_CHECKING:
    from aio_pika.abc import AbstractIncomingMessage

__all__ = ["dead_letters"]

MOST = 100
"""How many are looked at."""

LOOK = 0.05

NO_ID = "without id"


async def dead_letters(link: Link, folder: Path) -> tuple[tuple[DeadLetter, ...], int]:
    """Return the first dead letters, each message of a node once, and how many there are; they stay where they are.

    One process of the machine at a time looks, so that each sees all of them.
    """
    lock = Lock(folder / ".dead-letters")  # a node's has another end
    while not lock.take():
        await asyncio.sleep(LOOK)
    try:
        queue = await link.outgoing.get_queue(link.names.dead, ensure=True)
        there = queue.declaration_result.message_count or 0
        held: list[AbstractIncomingMessage] = []
        while len(held) < min(there, MOST) and (message := await queue.get(fail=False)) is not None:
            held.append(message)
        letters = [letter for message in held for letter in _letters(message)]
        # A message may have been given up twice, by two workers; one without an id is like no other.
        found = {(n if each.message == NO_ID else each[:2]): each for n, each in enumerate(letters)}
        for message in held:
            await message.nack(requeue=True)
    finally:
        lock.release()
    return tuple(found.values()), len(found) if there <= len(held) else there


def _letters(message: AbstractIncomingMessage) -> list[DeadLetter]:
    headers: Any = message.headers
    node, why = headers.get("flowstat-node"), headers.get("flowstat-reason")
    if node is None:  # the broker's own doing
        (death, *_) = headers.get("x-death") or [{}]
        node = str(death.get("queue", ""))
        why = f"given up by the broker: {death.get('reason', 'unknown')}"
    try:
        ids = [letter.id for letter in read(wire_of(message)).letters] if message.message_id else []
    except Refused:
        ids = [message.message_id or ""]
    return [DeadLetter(str(node), each or NO_ID, str(why)) for each in ids or [""]]
