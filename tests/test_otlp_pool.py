import gc

import orjson
import pytest

from flowstat.errors import TraceError
from flowstat.read import otlp, otlp_pool
from flowstat.read.jsonlines import CUT_OFF
from flowstat.read.notices import Notices
from flowstat.read.otlp_pool import Block, Pool, cores
from tests.span_files import plain, read, read_text


def line(n, **more):
    span = {"traceId": f"{n:032x}", "spanId": f"{n:016x}", "name": f"n{n % 3}", "kind": 1} | more
    return orjson.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}) + b"\n"


@pytest.fixture
def small(monkeypatch):
    """Let a file of some lines be a large one, whose blocks are two lines each."""
    monkeypatch.setattr(otlp, "LARGE", 0)
    monkeypatch.setattr(otlp, "BLOCK", 2 * len(line(1)))
    monkeypatch.setattr(otlp_pool, "START", 1)
    monkeypatch.setattr(otlp, "cores", lambda: 2)


def test_processes_read_what_one_reads(tmp_path, small, monkeypatch):
    content = [line(n) for n in range(1, 30)]
    content[4:4] = [b"\n"]
    content[10] = line(99, spanId="")
    content[20] = b"{\n"
    path = tmp_path / "traces.json"
    path.write_bytes(b"".join(content) + b"{")
    together = Notices(skip_bad=True)
    rows = read(otlp.read_otlp, path, together)
    assert [p.number for p in together.problems] == [2, 1]
    assert {p.what for p in together.problems} >= {CUT_OFF}
    monkeypatch.setattr(otlp, "cores", lambda: 1)
    alone = Notices(skip_bad=True)
    assert rows == read(otlp.read_otlp, path, alone)
    assert set(together.problems) == set(alone.problems)


def test_the_first_error_is_raised_after_the_rows_before_it(tmp_path, small):
    content = b"".join(line(n, name=f"{n}") for n in range(1, 12)) + line(12, spanId="") + line(13, spanId="x")
    (tmp_path / "t").write_bytes(content)
    rows = []
    batches = otlp.read_otlp(tmp_path / "t", "t", otlp.Mapping(), Notices())
    with pytest.raises(TraceError, match=r"^t:12: span 1: 'spanId' is missing$"):
        rows += [row for batch in batches for row in plain(batch)]
    with pytest.raises(TraceError, match=r"^traces\.json:12: "):
        read_text(otlp.read_otlp, tmp_path, content)


def blocks(n):
    return [Block("t", k, [line(k)]) for k in range(1, n + 1)]


def names(batches):
    return [row["trace_id"] for batch in batches for row in plain(batch)]


def test_a_process_that_ends_is_done_without(monkeypatch):
    monkeypatch.setattr(otlp_pool, "START", 0)
    with Pool(None, Notices(), 2) as pool:
        for worker in pool.started:
            worker.kill()
            worker.wait()
        assert names(pool.batches(blocks(5))) == [f"{k:032x}" for k in range(1, 6)]
        assert not pool.idle


@pytest.mark.parametrize("executable", ["", "/nowhere/python", "/bin/false"])
def test_without_processes_this_one_decodes(monkeypatch, executable):
    monkeypatch.setattr(otlp_pool.sys, "executable", executable)
    with Pool("{name}", Notices(), 2) as pool:
        assert names(pool.batches(blocks(3))) == [f"{k:032x}" for k in range(1, 4)]


def test_a_reading_that_is_given_up_leaves_no_process(tmp_path, small):
    (tmp_path / "t").write_bytes(b"".join(line(n) for n in range(1, 40)))
    batches = otlp.read_otlp(tmp_path / "t", "t", otlp.Mapping(), Notices())
    next(batches)
    pools = [o for o in gc.get_objects() if isinstance(o, Pool)]
    assert pools
    batches.close()
    assert all(worker.returncode is not None for pool in pools for worker in pool.started)


def test_there_is_a_processor():
    assert cores() >= 1


def test_it_is_the_processes_that_decode(monkeypatch):
    monkeypatch.setattr(otlp_pool, "START", 0)
    monkeypatch.setattr(otlp_pool, "decode_block", None)
    with Pool(None, Notices(), 2) as pool:
        assert names(pool.batches(blocks(5))) == [f"{k:032x}" for k in range(1, 6)]
