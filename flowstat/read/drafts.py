"""Files written whole or not at all: as a draft beside the place, which then takes it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from flowstat.errors import OutputError

__all__ = ["DraftWriter"]


class DraftWriter:
    """What the writers of whole files share: nothing new is at `path` unless `close` succeeds.

    When the block that a writer serves fails, its draft is removed, and what was at `path` before stays.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.draft = path.with_name(f".{path.name}.draft")
        with self.writing():
            self.draft.touch()

    def close(self) -> None:
        """Finish the file and put it in its place."""
        raise NotImplementedError

    def settle(self) -> None:
        """Let the draft take the place."""
        os.replace(self.draft, self.path)

    def discard(self) -> None:
        """Remove the draft."""
        with suppress(OSError):
            self.draft.unlink()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Discard the draft and raise an OutputError if the block can't write."""
        try:
            yield
        except OSError as error:
            self.discard()
            raise OutputError(f"can't write the trace {self.path}: {error.strerror or error}") from error
        except OutputError:
            self.discard()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.discard()
            return
        try:
            self.close()
        except BaseException:  # an interrupt, too
            self.discard()
            raise
