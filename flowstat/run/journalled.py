"""Feeds that write a journal, and that read one again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from flowstat.run.feeds import Answer, Ended, Feed
from flowstat.run.journal import Entry, Journal
from flowstat.run.journal_writer import JournalWriter
from flowstat.run.loop import Injection

__all__ = ["JournalledFeed", "ReplayFeed", "replayed"]


class JournalledFeed:
    """A feed whose messages and times are journalled; its clock stands still between them, as it will in a replay."""

    def __init__(self, feed: Feed, journal: JournalWriter) -> None:
        self._feed = feed
        self._journal = journal
        self._now = feed.now()
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
        self._now, self._paused = max(self._feed.now(), self.now()), 0
        if found is None:
            self._journal.tick(turn, self._now)
            return None
        if isinstance(found, Answer):
            node, key, body = self._journal.add((found.node, found.key, found.body), turn, self._now, found.what)
            return Answer(node, found.what, key, body)
        return self._journal.add(found, turn, self._now)

    async def pause(self, wait: int) -> None:
        """Let so many nanoseconds pass."""
        await self._feed.pause(wait)
        self._paused += wait


class ReplayFeed:
    """The feed of a journal: messages and times come when as many messages are handled as were then."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = iter(entries)
        self._next = next(self._entries, None)
        self._now = self._next.time if self._next else 0
        self._paused = 0

    def now(self) -> int:
        """Return the time, in nanoseconds since 1970."""
        return self._now + self._paused

    def due(self, until: int | None, turn: int, crowd: int) -> bool:
        """Whether the next entry was taken by now."""
        return self._next is not None and self._next.turn <= turn

    def take(self, until: int | None, turn: int) -> Injection | Answer | None:
        """Take the next entry."""
        entry = self._next
        if entry is None:
            raise Ended
        self._next = next(self._entries, None)
        self._now, self._paused = entry.time, 0
        if entry.node is None:
            return None
        if entry.what:
            return Answer(entry.node, entry.what, entry.key, entry.body)  # type: ignore[arg-type]
        return entry.node, entry.key, entry.body

    async def pause(self, wait: int) -> None:
        """Let so many nanoseconds pass."""
        self._paused += wait


def replayed(journal: Journal) -> Iterator[Injection]:
    """Yield a journal's messages from outside, for a run in which time does not count."""
    return ((e.node, e.key, e.body) for e in journal.entries if e.node is not None)
