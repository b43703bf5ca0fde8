"""A connection to a broker that is made again when it is lost."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from flowstat.errors import RunError
from flowstat.read.words import shown
from flowstat.run.amqp_link import connect

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection

__all__ = ["Lost", "is_loss", "reconnecting", "say_so"]

BACK_OFF = (0.1, 2.0)
"""Seconds to wait before connecting again: first, at most."""

STABLE = 5.0
"""Seconds after which a connection that is lost was none that can't be kept."""


class Lost(Exception):
    """The connection is lost; what was not confirmed comes again."""


async def reconnecting(
    broker: str,
    serve: Callable[[AbstractConnection], Awaitable[None]],
    stop: asyncio.Event,
    say: Callable[[str], object],
) -> None:
    """Serve a connection to its end; when it is lost, connect again, however long that takes, until `stop` is set.

    Raises
    ------
    RunError
        If there is no broker at the first attempt.
    """
    before = False
    pause = BACK_OFF[0]
    clock = asyncio.get_running_loop().time
    while (connection := await _connected(broker, stop, say, before)) is not None:
        if before:
            say("connected to the broker again")
        before = True
        began = clock()
        try:
            await serve(connection)
            return
        except Exception as error:
            if not (is_loss(error) or (isinstance(error, RuntimeError) and connection.is_closed)):
                raise
            why = f" ({shown(str(error), 200)})" if str(error) else ""
            say(f"the connection to the broker is lost{why}: what was not confirmed comes again")
        finally:
            with suppress(Exception):
                await asyncio.wait_for(connection.close(), 5)
        # Whatever ends it may do so at once, again and again.
        pause = BACK_OFF[0] if clock() - began >= STABLE else min(2 * pause, BACK_OFF[1])
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), pause)
            return


async def _connected(
    broker: str, stop: asyncio.Event, say: Callable[[str], object], before: bool
) -> AbstractConnection | None:
    """Connect, at once or in the end; None if it is to stop before."""
    wait = BACK_OFF[0]
    told = asyncio.ensure_future(stop.wait())
    try:
        while True:
            attempt = asyncio.ensure_future(connect(broker))
            await asyncio.wait([attempt, told], return_when=asyncio.FIRST_COMPLETED)
            if not attempt.done():
                attempt.cancel()
                await asyncio.gather(attempt, return_exceptions=True)
                return None
            try:
                return attempt.result()
            except OSError as error:
                if not before:
                    raise RunError(f"can't connect to the broker {_without_password(broker)}: {error}") from None
                if wait == BACK_OFF[0]:
                    say(f"no connection to the broker ({error}): trying again until there is one")
            await asyncio.wait([told], timeout=wait)
            if stop.is_set():
                return None
            wait = min(2 * wait, BACK_OFF[1])
    finally:
        told.cancel()


def is_loss(error: BaseException | None) -> bool:
    """Whether an error says that the connection, or a channel, is lost."""
    from aiormq.exceptions import AMQPError, ChannelInvalidStateError

    return isinstance(error, (Lost, AMQPError, ChannelInvalidStateError, OSError))


def _without_password(url: str) -> str:
    scheme, sign, rest = url.partition("://")
    return shown(f"{scheme}{sign}{rest.rpartition('@')[2]}", 200)


def say_so(what: str) -> None:
    """Tell on standard error."""
    print(f"flowstat: {what}", file=sys.stderr)
