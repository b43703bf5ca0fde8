"""Ratios of two timings taken side by side: a machine's speed and its noise fall out of them."""

import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple


class Row(NamedTuple):
    """What a benchmark yields: `ratio` is to be `sense` ("at most" or "at least") `bound`."""

    name: str
    ratio: float
    bound: float
    sense: str
    detail: str

    @property
    def holds(self) -> bool:
        return self.ratio <= self.bound if self.sense == "at most" else self.ratio >= self.bound


def seconds(work: Callable[[], object]) -> float:
    gc.collect()
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def alternate(*works: Callable[[], object], repetitions: int = 7) -> list[list[float]]:
    """Time each of `works` in turn, over and over, after one turn that does not count."""
    for work in works:
        work()
    turns = [[seconds(work) for work in works] for _ in range(repetitions)]
    return [list(times) for times in zip(*turns, strict=True)]


def median_ratio(over: list[float], under: list[float]) -> float:
    """Return the median of the ratios of timings taken in the same turn."""
    return statistics.median(a / b for a, b in zip(over, under, strict=True))


TIMED = """
import gc, json, sys, time, warnings
warnings.filterwarnings("ignore")
path = sys.argv[1]
{prepare}
gc.collect()
started = time.perf_counter()
{work}
seconds = time.perf_counter() - started
# Not ru_maxrss, which begins with that of the process that started this one.
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024
print(json.dumps([seconds, peak, result]))
"""


def run(prepare, work, path):
    """Return seconds, peak MB and the result of a piece of work in a process of its own."""
    code = TIMED.format(prepare=prepare, work=work)
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def contest(path, repetitions, **works):
    """Run each contender in turn; return name -> (seconds of each turn, peak MB, result)."""
    turns = {name: [] for name in works}
    for _ in range(repetitions):
        for name, (prepare, work) in works.items():
            turns[name].append(run(prepare, work, path))
    return {name: ([t[0] for t in all_], max(t[1] for t in all_), all_[0][2]) for name, all_ in turns.items()}
