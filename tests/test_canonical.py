import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flowstat.errors import OutputError
from flowstat.read.canonical import COLUMNS, open_writer, schema
from flowstat.read.canonical_writers import to_json_rows
from flowstat.read.traces import read_traces
from flowstat.read.writers import open_trace_writer

ROW = {
    "trace_id": 1,
    "span_id": 2,
    "parent_id": None,
    "parent": None,
    "name": "a",
    "key": "k",
    "sent": "b",
    "sent_at": None,
    "started_at": 1_700_000_000_000_000_001,
    "ended_at": None,
    "status": "ok",
    "worker": None,
}


def batch(*rows, ids=None):
    columns = {c: [row[c] for row in rows] for c in COLUMNS}
    kinds = schema(ids)
    arrays = [
        pa.array(columns[f.name], f.type.value_type).dictionary_encode().cast(f.type)
        if pa.types.is_dictionary(f.type)
        else pa.array(columns[f.name], f.type)
        for f in kinds
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=kinds)


def rows_of(path):
    return [row for b in read_traces(path).batches() for row in b.to_pylist()]


def test_times_are_iso_texts_with_nanoseconds():
    (row,) = to_json_rows(batch(ROW))
    assert row == ROW | {"started_at": "2023-11-14T22:13:20.000000001Z"}


@pytest.mark.parametrize("name", ["t.parquet", "t.jsonl", "t", "deep/er/t.parquet"])
@pytest.mark.parametrize("ids", [None, pa.string()])
def test_what_is_written_is_read(tmp_path, name, ids):
    row = ROW if ids is None else ROW | {"trace_id": "x", "span_id": "y", "parent_id": "z", "parent": "a"}
    first, second = batch(row, ids=ids), batch(row, row, ids=ids)
    with open_writer(tmp_path / name) as writer:
        writer.write(first)
        writer.write(second)
    assert rows_of(tmp_path / name) == first.to_pylist() + second.to_pylist()


def test_a_parquet_trace_without_rows_is_a_trace(tmp_path):
    with open_writer(tmp_path / "t.parquet"):
        pass
    assert pq.read_table(tmp_path / "t.parquet").num_rows == 0


def test_every_segment_is_complete_and_the_directory_reads_as_one_file(tmp_path):
    path = tmp_path / "t.parquet"
    with open_writer(path) as writer:
        for n in range(3):
            writer.write(batch(ROW | {"span_id": n + 1}))
            assert [f.name for f in sorted(path.iterdir())] == [f"part-{k:06d}.parquet" for k in range(n + 1)]
            assert pq.read_table(path).column("span_id").to_pylist() == list(range(1, n + 2))


def test_a_trace_is_only_overwritten_when_asked(tmp_path):
    for name in ("t.parquet", "t.jsonl"):
        path = tmp_path / name
        for _ in range(2):
            with open_writer(path, overwrite=True) as writer:
                writer.write(batch(ROW))
        with pytest.raises(OutputError, match="is there already"):
            open_writer(path)
        assert len(rows_of(path)) == 1


def test_what_is_no_trace_is_never_removed(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match=r"other files \(thesis.txt\)"):
        open_writer(folder, overwrite=True)
    with pytest.raises(OutputError, match="not a trace"):
        open_writer(folder / "thesis.txt", overwrite=True)
    assert (folder / "thesis.txt").read_text() == "years of work"


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "t.parquet", "a\0b"):
        with pytest.raises(OutputError, match="can't write a trace to"):
            open_writer(place)
    with pytest.raises(OutputError, match="unknown trace format 'csv'"):
        open_writer(tmp_path / "t", "csv")


def test_a_failed_segment_leaves_no_draft(tmp_path, monkeypatch):
    def full(table, where, **options):
        where.write_bytes(b"PAR1 half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    path = tmp_path / "t.parquet"
    with pytest.raises(OutputError, match="No space left on device"), open_writer(path) as writer:
        writer.write(batch(ROW))
    assert not path.exists()


@pytest.mark.parametrize(
    "name",
    ["out.json", "out.CSV", "out.jsonl.gz", "x.otlp.json.gz", "x.jsonl.zst", "x.xes.zst", "x.parquet.gz", "x.db"],
)
def test_a_name_that_says_what_is_not_written_is_refused(tmp_path, name):
    with pytest.raises(OutputError, match="name the format with --to"):
        open_trace_writer(tmp_path / name)
    assert not (tmp_path / name).exists()
    with open_trace_writer(tmp_path / name, "jsonl"):
        pass
    with open_trace_writer(tmp_path / "unknown.suffix"):
        pass
    assert (tmp_path / "unknown.suffix").is_dir()


def test_a_packed_log_is_packed_whatever_the_case_of_its_name(tmp_path):
    with open_trace_writer(tmp_path / "up.XES.GZ"):
        pass
    assert (tmp_path / "up.XES.GZ").read_bytes().startswith(b"\x1f\x8b")


def test_parquet_is_not_written_to_a_name_that_is_not_utf_8(tmp_path):
    path = tmp_path / os.fsdecode(b"bad\xff")
    with pytest.raises(OutputError, match=r"bad\\udcff: the name is not UTF-8 text"):
        open_trace_writer(path)
    assert not path.exists()
