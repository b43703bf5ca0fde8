"""What all tests share: how hypothesis draws, the command line, and the cases that are stored beside the project."""

import io
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "flowstat",
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("flowstat")


@pytest.fixture(autouse=True)
def python_handles_ctrl_c() -> None:
    """Put back what Python does on Ctrl-C: pyspark leaves a handler of its own, and a run lets such a one be."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture
def run_flowstat(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process: returns its exit code, standard output and standard error."""
    from flowstat.cli import main

    def run(*arguments: object, stdin: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["flowstat", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


@pytest.fixture
def shared_cases() -> Callable[[str], list[dict[str, Any]]]:
    """Read the stored cases of that name, such as `graphie_cases`; skip where they are absent, fail there in CI."""

    def read(name: str) -> list[dict[str, Any]]:
        path = SHARED / "cases" / f"{name}.json"
        if not path.exists():
            reason = f"../shared/cases/{name}.json is not here: what the other program says can't be compared"
            if os.environ.get("CI") == "true":
                pytest.fail(reason)
            pytest.skip(reason)
        cases: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cases"]
        return cases

    return read
