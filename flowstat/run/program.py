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
from typing import IO, NamedTuple, Protocol

import orjson

from flowstat.errors import RunError
from flowstat.read.graph import Component
from flowstat.read.topics import matches
from flowstat.read.words import quote_argument, shown

__all__ = ["ROOM", "Home", "Line", "Program", "ProgramEnded", "Supervision", "component_name", "line_of", "message_of"]

ROOM = 1024
"""Lines that may wait on their way from or to a program; then it waits itself, by its pipe."""


class Line(NamedTuple):
    """A line that came from a program: of a source (`node` is a target), or of a wire (`node` is its own).

    `life` counts how often the program was started; with `over` there is no line, but its program has ended for good.
    """

    node: str
    key: str = ""
    body: object = None
    wire: bool = False
    life: int = 0
    over: bool = False


class ProgramEnded(Exception):
    """A program takes no more messages."""


@dataclass(frozen=True)
class Supervision:
    """How programs are kept: how often one that fails is started again, and after how many seconds.

    The k-th time (k = 0, 1, ...) it is after `wait * 2**k` seconds; a program that ran for `steady` seconds begins
    anew. At the end a program has `patience` seconds to end by itself once its input is closed, and as many again
    after it was asked to.
    """

    restarts: int = 5
    wait: float = 0.2
    steady: float = 60.0
    patience: float = 10.0


def message_of(line: str) -> tuple[str, object]:
    """Return key and body of an output line: a JSON object of `body` and perhaps `key`, or else the text itself.

    Examples
    --------
    >>> message_of('{"key": "eu.paid", "body": 5}'), message_of("hello")
    (('eu.paid', 5), ('', 'hello'))
    """
    if line.startswith("{"):
        with contextlib.suppress(orjson.JSONDecodeError):
            told = orjson.loads(line)
            if "body" in told and told.keys() <= {"key", "body"} and isinstance(told.get("key", ""), str):
                return told.get("key", ""), told["body"]
    return "", line


def line_of(key: str, body: object) -> str:
    """Return the input line of a message: a text as it is, anything else as JSON with its key.

    Raises
    ------
    RunError
        If the body is neither text nor JSON.
    """
    if isinstance(body, str) and "\n" not in body and not key:
        return body
    try:
        return orjson.dumps({"key": key, "body": body}).decode()
    except orjson.JSONEncodeError as error:
        raise RunError(f"a component takes texts and JSON, not {shown(repr(body))}: {error}") from None


def component_name(component: Component) -> str:
    """Return a component as the graph file has it."""
    return f"[ {' '.join(map(quote_argument, component.command))} ]"


class Home(Protocol):
    """Where a program's lines go, and what tells it that the run ends."""

    ending: threading.Event

    def put(self, line: Line) -> None:
        """Let a line wait for the loop; blocks while there is no room."""

    def make_room(self) -> None:
        """Take in what has come."""

    def say(self, program: Program, line: str) -> None:
        """Write a line to the log."""


class Program:
    """One program: its process, and the threads at its pipes."""

    def __init__(self, component: Component, home: Home, how: Supervision) -> None:
        self.component = component
        self.name = component_name(component)
        self.ended = self.closed = False
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
        except OSError as error:
            raise RunError(f"can't start the component {self.name}: {error.strerror or error}") from None
        self._thread.start()

    def send(self, line: str) -> int:
        """Write a line to the program, and return which life of it takes the line.

        Waits while it takes none, and takes in what comes meanwhile.

        Raises
        ------
        ProgramEnded
            If the program has ended for good, or its input is over.
        """
        while True:
            if self.ended or self.closed:
                raise ProgramEnded
            with self._turn, contextlib.suppress(Full):
                self._lines.put_nowait(line)
                return self.life
            self._home.make_room()
            self._home.ending.wait(0.001)

    def close(self) -> None:
        """Tell the program that its input is over."""
        if not self.closed:
            self.closed = True
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
            if self._process:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, number)
        self._thread.join(patience)

    def _open(self) -> subprocess.Popen[bytes]:
        takes = self.component.kind != "source"
        command = self.component.command
        if shutil.which(command[0]) is None:
            raise FileNotFoundError(2, "there is no such program")
        if shutil.which("setpriv"):  # Linux: so that no program outlives a run that is killed
            command = ("setpriv", "--pdeathsig", "KILL", "--", *command)
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE if takes else subprocess.DEVNULL,
            stdout=None if self.component.kind == "sink" else subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

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
            said = (
                "ended"
                if code == 0
                else f"was ended by signal {-code}"
                if code < 0
                else f"failed with exit code {code}"
            )
            if tries == self._how.restarts:
                self._home.say(self, f"{said}, after {tries} restarts: given up")
                break
            wait = self._how.wait * 2**tries
            tries += 1
            self._home.say(self, f"{said}: started again in {wait:g} s ({tries} of {self._how.restarts})")
            if self._home.ending.wait(wait):
                break
            try:
                self._process = self._open()
            except OSError as error:
                self._home.say(self, f"can't be started again: {error.strerror or error}")
                break
        self.ended = True
        if self.component.kind == "wire" and self.component.node is not None:
            self._home.put(Line(self.component.node, wire=True, life=self.life, over=True))

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
        if process.stdout:
            self._read(process.stdout)
        code = process.wait()
        over.set()
        for thread in threads:
            thread.join()
        self._begin_anew()
        return code

    def _begin_anew(self) -> None:
        """Forget the lines that the last life did not take: its messages are known to be lost."""
        with self._turn:
            self.life += 1
            lost = 0
            with contextlib.suppress(Empty):
                while True:
                    lost += self._lines.get_nowait() is not None
        if lost and self.component.kind == "sink":
            self._home.say(self, f"did not take {lost} lines that were sent to it")

    def _read(self, lines: IO[bytes]) -> None:
        with lines:
            for line in lines:
                key, body = message_of(line.decode(errors="replace").rstrip("\r\n"))
                if self.component.node is not None:
                    self._home.put(Line(self.component.node, key, body, True, self.life))
                    continue
                for target in dict.fromkeys(r.target for r in self.component.routes if matches(r.key, key)):
                    self._home.put(Line(target, key, body))

    def _log(self, lines: IO[bytes]) -> None:
        with lines:
            for line in lines:
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
            return
