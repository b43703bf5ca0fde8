"""One external program of a component: its process, the threads at its pipes, and its restarts."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
from dataclasses import dataclass
from queue import Empty, Full, Queue
from time import monotonic
from typing import IO, Protocol

from flowstat.errors import RunError
from flowstat.read.graph import Component
from flowstat.read.topics import matches
from flowstat.read.words import visible
from flowstat.run.guard import Guard
from flowstat.run.lines import Line, component_name, message_of

__all__ = ["ROOM", "Home", "Program", "ProgramEnded", "Supervision"]

ROOM = 1024
"""Lines that may wait on their way from or to a program; then it waits itself, by its pipe."""

LONGEST_LINE = 1 << 26
"""A program that writes a longer line (64 MiB) is ended; one to its standard error comes to the log in parts."""

LOGGED = 1 << 13
"""Bytes of such a part."""

LONGEST_WAIT = 3600.0
"""Seconds, at most, until a program is started again."""


class ProgramEnded(Exception):
    """A program takes no message now."""


@dataclass(frozen=True)
class Supervision:
    """How programs are kept: how often one that fails is started again, and after how many seconds.

    The k-th time (k = 0, 1, ...) it is after `wait * 2**k` seconds, an hour at most; a program that ran for `steady`
    seconds begins anew. When all else is done, programs are waited for once their input is closed, as long as they
    take; the log tells of one that takes longer than `patience` seconds. When the run is stopped a program has
    `patience` seconds to end by itself, and as many again after it was asked to (SIGTERM); then it is killed.

    Raises
    ------
    RunError
        For a number that is none, or negative.
    """

    restarts: int = 5
    wait: float = 0.2
    steady: float = 60.0
    patience: float = 10.0

    def __post_init__(self) -> None:
        if not isinstance(self.restarts, int) or isinstance(self.restarts, bool) or self.restarts < 0:
            raise RunError(f"restarts is a whole number, 0 or more, not {self.restarts!r}")
        for name in ("wait", "steady", "patience"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not 0 <= value <= 1e6:
                raise RunError(f"{name} is a number of seconds, 0 or more and at most a million, not {value!r}")


class Home(Protocol):
    """Where a program's lines go, and what tells it that the run ends."""

    ending: threading.Event
    guard: Guard

    def put(self, line: Line) -> None:
        """Let a line wait for the loop; blocks while there is no room."""

    def make_room(self) -> bool:
        """Take in what has come; return False where that is too much already."""

    def say(self, program: Program, line: str) -> None:
        """Write a line to the log."""


class Program:
    """One program: its process, and the threads at its pipes."""

    def __init__(self, component: Component, home: Home, how: Supervision) -> None:
        self.component = component
        self.name = visible(component_name(component))
        self.ended = self.closed = self.deaf = False
        self.closed_at = 0.0
        self.life = 0
        self._turn = threading.Lock()
        self._home = home
        self._how = how
        self._lines: Queue[str | None] = Queue(ROOM)
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def start(self) -> None:
        """Start the program.

        Raises
        ------
        RunError
            If it is not there, or can't be run.
        """
        try:
            self._process = self._open()
        except (OSError, ValueError) as error:  # null bytes and the like are no arguments
            reason = getattr(error, "strerror", None) or error
            raise RunError(f"can't start the component {self.name}: {reason}") from None
        self._thread.start()

    def send(self, line: str) -> int:
        """Write a line to the program, and return which life of it takes the line.

        Waits while it takes none, and takes in what comes meanwhile.

        Raises
        ------
        ProgramEnded
            If the program has ended for good, its input is over or closed by itself, or it writes without end and takes
            nothing.
        """
        while True:
            if self.ended or self.closed or self.deaf:
                raise ProgramEnded
            with self._turn, contextlib.suppress(Full):
                self._lines.put_nowait(line)
                return self.life
            if not self._home.make_room():
                raise ProgramEnded
            self._home.ending.wait(0.001)

    def close(self) -> None:
        """Tell the program that its input is over."""
        if not self.closed:
            self.closed, self.closed_at = True, monotonic()
            with contextlib.suppress(Full):
                self._lines.put(None, timeout=0)

    def stop(self) -> None:
        """End the program."""
        if not self._thread.is_alive():
            return
        patience = self._how.patience
        for number in (signal.SIGTERM, signal.SIGKILL):
            # A source has no input that could be closed.
            self._thread.join(patience if number != signal.SIGTERM or self.component.kind != "source" else 0)
            if not self._thread.is_alive():
                return
            self._signal(number)
        self._thread.join(patience)

    def _signal(self, number: int) -> None:
        """Send a signal to the process, and to all that it began."""
        if self._process:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def _open(self) -> subprocess.Popen[bytes]:
        takes = self.component.kind != "source"
        command = self.component.command
        if shutil.which(command[0]) is None:
            raise FileNotFoundError(2, "there is no such program")
        if shutil.which("setpriv"):  # Linux: so that no program outlives a run that is killed
            command = ("setpriv", "--pdeathsig", "KILL", "--", *command)
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE if takes else subprocess.DEVNULL,
            stdout=None if self.component.kind == "sink" else subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._home.guard.add(process.pid)
        return process

    def _keep(self) -> None:
        """Watch the program, and start it again where it fails."""
        tries = 0
        while True:
            began = monotonic()
            code = self._serve()
            if self._home.ending.is_set() or (code == 0 and (self.closed or self.component.kind == "source")):
                break
            if monotonic() - began > self._how.steady:
                tries = 0
            failed = f"was ended by signal {-code}" if code < 0 else f"failed with exit code {code}"
            said = failed if code else "ended"
            if tries == self._how.restarts:
                self._home.say(self, f"{said}, after {tries} restarts: given up")
                break
            wait = min(self._how.wait * 2.0 ** min(tries, 60), LONGEST_WAIT)
            tries += 1
            self._home.say(self, f"{said}: started again in {wait:g} s ({tries} of {self._how.restarts})")
            if self._home.ending.wait(wait):
                break
            try:
                self._process = self._open()
            except (OSError, ValueError) as error:
                self._home.say(self, f"can't be started again: {getattr(error, 'strerror', None) or error}")
                break
        self.ended = True
        if self.component.kind == "wire" and self.component.node is not None:
            self._home.put(Line(self.component.node, wire=True, life=self.life, over=True, failed=code != 0))

    def _serve(self) -> int:
        """Carry lines from and to the process until it ends; return its exit code."""
        process = self._process
        assert process is not None
        threads = [threading.Thread(target=self._log, args=(process.stderr,), daemon=True)]
        over = threading.Event()
        if process.stdin:
            threads.append(threading.Thread(target=self._write, args=(process.stdin, over), daemon=True))
        for thread in threads:
            thread.start()
        rest = self._read(process.stdout) if process.stdout else b""
        # What it began and left behind ends with it, before its number can be another's.
        if hasattr(os, "waitid"):
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        else:
            process.wait()
        self._signal(signal.SIGKILL)
        code = process.wait()
        self._home.guard.remove(process.pid)
        if rest and code == 0:
            self._take(rest)
        elif rest and not self._home.ending.is_set():
            self._home.say(self, f"ended within a line: its first {len(rest)} bytes are left out")
        over.set()
        for thread in threads:
            thread.join()
        self._begin_anew()
        return code

    def _begin_anew(self) -> None:
        """Forget the lines that the last life did not take: its messages are known to be lost."""
        with self._turn:
            self.life += 1
            self.deaf = False
            lost = 0
            with contextlib.suppress(Empty):
                while True:
                    lost += self._lines.get_nowait() is not None
        if lost and self.component.kind == "sink":
            self._home.say(self, f"did not take {lost} lines that were sent to it")

    def _read(self, lines: IO[bytes]) -> bytes:
        """Take the lines that the process writes; return what comes after the last line end."""
        with lines:
            while line := lines.readline(LONGEST_LINE):
                if line.endswith(b"\n"):
                    self._take(line)
                elif len(line) < LONGEST_LINE:
                    return line
                else:
                    self._home.say(self, f"wrote a line of more than {LONGEST_LINE:,} bytes: it is killed")
                    self._signal(signal.SIGKILL)
                    break
        return b""

    def _take(self, line: bytes) -> None:
        """Let a line wait for the loop."""
        key, body = message_of(line.decode(errors="replace").rstrip("\r\n"))
        if self.component.node is not None:
            self._home.put(Line(self.component.node, key, body, True, self.life))
            return
        for target in dict.fromkeys(r.target for r in self.component.routes if matches(r.key, key)):
            self._home.put(Line(target, key, body))

    def _log(self, lines: IO[bytes]) -> None:
        with lines:
            while line := lines.readline(LOGGED):
                self._home.say(self, line.decode(errors="replace").rstrip())

    def _write(self, file: IO[bytes], over: threading.Event) -> None:
        try:
            with file:
                while not over.is_set():
                    try:
                        line = self._lines.get(timeout=0.05)
                    except Empty:
                        file.flush()
                        if self.closed:
                            return
                        continue
                    if line is None:
                        return
                    file.write(line.encode(errors="replace") + b"\n")
                    if self._lines.empty():
                        file.flush()
        except (BrokenPipeError, ConnectionResetError):
            self.deaf = True
