"""Sees to it that no program outlives a run that is killed: a shell that waits for that, and then ends them."""

from __future__ import annotations

import contextlib
import subprocess

__all__ = ["Guard"]

# A line "+ GROUP" or "- GROUP" tells it of a group of processes that was begun, or has ended. When the run is gone, so
# is the other end of its input; it has a session of its own, so that no signal to the run's group ends it before.
SCRIPT = """
groups=' '
while read -r how group; do
    case $how in
        +) groups="$groups$group " ;;
        -) groups="${groups%% $group *} ${groups#* $group }" ;;
    esac
done
for group in $groups; do kill -9 "-$group"; done
"""


class Guard:
    """Kills groups of processes when the process that made it has ended in whatever way."""

    def __init__(self) -> None:
        self._shell: subprocess.Popen[bytes] | None = None
        with contextlib.suppress(OSError):  # without a shell the system's own means have to do
            self._shell = subprocess.Popen(
                ("/bin/sh", "-c", SCRIPT),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                bufsize=0,
            )

    def add(self, group: int) -> None:
        """Watch over a group that was begun."""
        self._tell(f"+ {group}\n")

    def remove(self, group: int) -> None:
        """Forget a group that has ended: another may get its number."""
        self._tell(f"- {group}\n")

    def close(self) -> None:
        """End the guard, and what is left of the groups."""
        if self._shell is not None and self._shell.stdin is not None:
            self._shell.stdin.close()
            self._shell.wait()

    def _tell(self, line: str) -> None:
        if self._shell is not None and self._shell.stdin is not None:
            with contextlib.suppress(OSError, ValueError):
                self._shell.stdin.write(line.encode())  # one short line is written at once, also from two threads
