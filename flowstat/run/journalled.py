"""Feeds that write a journal, and that read one again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from flowstat.run.feeds import Answer, Ended, Feed
from flowstat.run.journal import Entry
from flowstat.run.loop import Injection

if TYPE_CHECKING:
    from flowstat.run.journal_writer import JournalWriter

__all__ = ["JournalledFeed", "Marked", "ReplayFeed", "States"]


States = Mapping[str, str]
"""The digest of each node's state."""


class Marked(NamedTuple):
    """The states as a journal has them, after so many messages from outside."""

    after: int
    states: States


class JournalledFeed:
    """A feed whose messages and times are journalled; its clock stands still between them, as it will in a replay.

    It stands at `now` at first, the feed's own time unless told.
    """

    def __init__(
        self, feed: Feed, journal: JournalWriter, states: Callable[[], States], now: int | None = None
    ) -> None:
        self._feed = feed
        self._journal = journal
        self._states = states
        self._now = feed.now() if now is None else now
        self._paused = 0

    def now(self) -> int:
        """Return the time of what was taken last, and of what was waited for since."""
        return self._now + self._paused

    def due(self, until: int | None, turn: int, crowd: int) -> bool:
        """Whether there is something to take."""
        return self._feed.due(until, turn, crowd)

    def take(self, until: int | None, turn: int) -> Injection | Answer | None:
        """Take the next message or time, and write it."""
        found = self._feed.take(until, turn)
        journal = self._journal
        journal.pulled()
        self._now, self._paused = max(self._feed.now(), self.now()), 0
        if found is None:
            journal.tick(turn, self._now)
            return None
        if isinstance(found, Answer):
            node, key, body = journal.add((found.node, found.key, found.body), turn, self._now, found.what)
            return Answer(node, found.what, key, body)
        journal.mark_before(self._states)
        return journal.add(found, turn, self._now)

    async def pause(self, wait: int) -> None:
        """Let so many nanoseconds pass."""
        await self._feed.pause(wait)
        self._paused += wait


class ReplayFeed:
    """The feed of a journal: messages and times come when as many messages are handled as were then.

    Parameters
    ----------
    items
        The entries, and the digests of all states where they were marked.
    compare
        Called with these digests when the states should be so.
    go_on
        Called, with the time (None before the first entry), when there are no more; returns the feed that goes on from
        there, or None.
    """

    def __init__(
        self,
        items: Iterator[Entry | Marked],
        compare: Callable[[Marked], object],
        go_on: Callable[[int | None], Feed | None] = lambda now: None,
    ) -> None:
        self._items = items
        self._compare = compare
        self._go_on = go_on
        self._feed: Feed | None = None
        self._next: Entry | None = None
        self._marks: list[Marked] = []
        self._paused = 0
        self._look(None)
        self._now = self._next.time if self._next else 0

    def now(self) -> int:
        """Return the time, in nanoseconds since 1970."""
        return self._feed.now() if self._feed else self._now + self._paused

    def due(self, until: int | None, turn: int, crowd: int) -> bool:
        """Whether the next entry was taken by now."""
        if self._feed:
            return self._feed.due(until, turn, crowd)
        return self._next is not None and self._next.turn <= turn

    def take(self, until: int | None, turn: int) -> Injection | Answer | None:
        """Take the next entry."""
        entry = self._next
        if self._feed:
            return self._feed.take(until, turn)
        if entry is None:
            raise Ended
        for mark in self._marks:
            self._compare(mark)
        self._now, self._paused = entry.time, 0
        self._look(entry.time)
        if entry.node is None:
            return None
        if entry.what:
            return Answer(entry.node, entry.what, entry.key, entry.body)  # type: ignore[arg-type]
        return entry.node, entry.key, entry.body

    async def pause(self, wait: int) -> None:
        """Let so many nanoseconds pass."""
        if self._feed:
            await self._feed.pause(wait)
        else:
            self._paused += wait

    def _look(self, now: int | None) -> None:
        """Look for the next entry: what comes next has to be known before a message is handled."""
        self._next, self._marks = None, []
        for item in self._items:
            if isinstance(item, Entry):
                self._next = item
                return
            self._marks.append(item)
        for mark in self._marks:
            self._compare(mark)
        self._feed = self._go_on(now)
