"""Lines of OTLP/JSON decoded in processes of their own, a block of lines each, in order.

The processes are plain interpreters that talk over pipes: unlike those of `multiprocessing` they neither run the
caller's main module again, nor are they copies of a process whose other threads may hold locks. Where they can't be
had, or one ends, this process decodes by itself.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import IO, NamedTuple, cast

import pyarrow as pa

from flowstat.errors import TraceError
from flowstat.read.notices import Notices, Problem
from flowstat.read.otlp_spans import SpanDecoder

__all__ = ["Block", "Pool", "cores", "decode_block", "serve"]


class Block(NamedTuple):
    """Lines of a file; the first has the number `first`."""

    origin: str
    first: int
    lines: list[bytes]


class _Answer(NamedTuple):
    batches: list[pa.RecordBatch]
    problems: tuple[Problem, ...]
    error: str | None


START = 16
Worker = subprocess.Popen[bytes]
_gone = (OSError, EOFError, pickle.UnpicklingError)


def cores() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def decode_block(decoder: SpanDecoder, block: Block, notices: Notices) -> Iterator[pa.RecordBatch]:
    """Decode the lines of a block that are not blank, one document each."""
    places = enumerate(block.lines, block.first)
    return decoder.batches([(f"{block.origin}:{n}", line) for n, line in places if not line.isspace()], notices)


class Pool:
    """Processes that decode blocks; they end when the block that it serves does.

    Parameters
    ----------
    template
        See `flowstat.read.otlp_spans.SpanDecoder`.
    notices
        Where problems go; what a process finds is added in the order of the blocks.
    size
        How many processes; with less than two there are none.
    """

    def __init__(self, template: str | None, notices: Notices, size: int) -> None:
        self.decoder = SpanDecoder(template)
        self.notices = notices
        self.idle: deque[Worker] = deque()
        self.started: list[Worker] = []
        if size < 2 or not sys.executable or getattr(sys, "frozen", False):
            return
        command = [sys.executable, "-c", "from flowstat.read.otlp_pool import serve; serve()"]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with suppress(OSError, ValueError):
            for _ in range(size):
                worker = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env=environment,
                )
                self.started.append(worker)
                pickle.dump((template, notices.skip_bad), _pipe(worker.stdin))
                self.idle.append(worker)

    def batches(self, blocks: Iterable[Block]) -> Iterator[pa.RecordBatch]:
        """Decode blocks into batches of spans, in order.

        A process has one block at a time: while it writes its answer nothing is written to it, so none waits for
        the other.

        Raises
        ------
        TraceError
            Of the first block that has one.
        """
        under_way: deque[tuple[Worker | None, Block]] = deque()
        blocks = iter(blocks)
        # While the processes start.
        for block in islice(blocks, START if self.idle else 0):
            yield from decode_block(self.decoder, block, self.notices)
        for block in blocks:
            if not self.idle and under_way:
                yield from self._answer(*under_way.popleft())
            under_way.append((self._send(block), block))
        while under_way:
            yield from self._answer(*under_way.popleft())

    def _send(self, block: Block) -> Worker | None:
        if not self.idle:
            return None
        worker = self.idle.popleft()
        try:
            pipe = _pipe(worker.stdin)
            pickle.dump(block, pipe, 5)
            pipe.flush()
        except OSError:
            return None
        return worker

    def _answer(self, worker: Worker | None, block: Block) -> Iterator[pa.RecordBatch]:
        answer: _Answer | None = None
        if worker is not None:
            with suppress(*_gone):
                answer = pickle.load(_pipe(worker.stdout))
                self.idle.append(worker)
        if answer is None:
            yield from decode_block(self.decoder, block, self.notices)
            return
        self.notices.extend(answer.problems)
        yield from answer.batches
        if answer.error is not None:
            raise TraceError(answer.error)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.started:
            worker.kill()
        for worker in self.started:
            for pipe in (worker.stdin, worker.stdout):
                with suppress(OSError):
                    _pipe(pipe).close()
            worker.wait()


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    return cast(IO[bytes], pipe)


def serve() -> None:
    """Answer blocks from standard input to standard output until it ends: what a process of the pool does."""
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    with suppress(EOFError, KeyboardInterrupt, BrokenPipeError):
        template, skip_bad = pickle.load(requests)
        decoder = SpanDecoder(template)
        while True:
            block = pickle.load(requests)
            notices = Notices(skip_bad)
            batches: list[pa.RecordBatch] = []
            error = None
            try:
                batches += decode_block(decoder, block, notices)
            except TraceError as found:
                error = str(found)
            pickle.dump(_Answer(batches, notices.problems, error), answers, 5)
            answers.flush()
