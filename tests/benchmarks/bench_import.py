"""Starting flowstat, against starting Python with click."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from statistics import median

from tests.benchmarks.harness import Row, alternate

OURS = {"import flowstat": ["-c", "import flowstat"], "flowstat --help": ["-m", "flowstat", "--help"]}


def python(*arguments: str) -> Callable[[], object]:
    return lambda: subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)


def benchmarks() -> Iterator[Row]:
    for name, arguments in OURS.items():
        over, under = alternate(python(*arguments), python("-c", "import click"), repetitions=21)
        detail = f"{median(over) * 1000:.0f} ms, import click {median(under) * 1000:.0f} ms"
        yield Row(f"{name} / import click", median(over) / median(under), 2.0, "at most", detail)
