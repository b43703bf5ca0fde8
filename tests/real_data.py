"""The real logs that lie beside the project."""

import os
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.conftest import SHARED


def real_data(name: str) -> Path:
    """Return where a file of ../shared/data is; skip where it is absent, fail there in CI."""
    path = SHARED / "data" / name
    if not path.exists():
        reason = f"../shared/data/{name} is not here: real data can't be compared"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return path


def directly_follows(log: pa.Table) -> tuple[Counter[Any], ...]:
    """Return how often each activity follows each in a case, by time and then order, starts one and ends one."""
    frame = log.to_pandas().astype({"trace_id": str, "name": str}).sort_values("started_at", kind="stable")
    follows: Counter[Any] = Counter()
    starts: Counter[Any] = Counter()
    ends: Counter[Any] = Counter()
    for _, names in frame.groupby("trace_id", sort=False)["name"]:
        listed = names.tolist()
        follows.update(pairwise(listed))
        starts[listed[0]] += 1
        ends[listed[-1]] += 1
    return follows, starts, ends
