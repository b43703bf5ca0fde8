import csv
import io
import json
import sys
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowstat.errors import OutputError
from flowstat.results import Result
from flowstat.show.tables import TableFormat, render

NAN, INF = float("nan"), float("inf")


@dataclass(frozen=True)
class Sample(Result):
    lines: tuple[tuple[Any, ...], ...] = ()

    title = "Loops of [orders]"
    columns = ("cycle", "exits", "mean_rounds", "sure")

    def rows(self) -> list[dict[str, Any]]:
        return [dict(zip(self.columns, line, strict=True)) for line in self.lines]

    def notes(self) -> tuple[str, ...]:
        return ("Its lines cover 97% of all events.",) if self.lines else ()


SAMPLE = Sample((("pay", ["ship", "reject"], 0.123456789, True), ("hold_back|<b>", [], 12.0, False)))

cells = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=30) | st.lists(st.text(max_size=9))
samples = st.lists(st.tuples(cells, cells, cells, cells), max_size=4).map(lambda lines: Sample(tuple(lines)))


def test_a_table_is_aligned_and_has_no_colours() -> None:
    lines = render(SAMPLE).splitlines()
    assert lines[0] == "Loops of [orders]"
    assert lines[2].split() == ["cycle", "exits", "mean", "rounds", "sure"]
    assert lines[4].split() == ["pay", "ship,", "reject", "0.1235", "yes"]
    assert lines[4].index("0.1235") + 6 == lines[5].index("12") + 2
    assert lines[-1] == "Its lines cover 97% of all events."
    assert "\x1b" not in "".join(lines)


def test_a_long_list_is_folded_and_nothing_is_lost() -> None:
    names = [f"node{k}" for k in range(40)]
    text = render(Sample((("c", names, 0.5, None),)), width=60)
    assert max(map(len, text.splitlines())) <= 60
    assert all(f"node{k}," in text or k == 39 for k in range(40))


def test_a_narrow_place_cuts_no_number() -> None:
    text = render(Sample((("z" * 50, ["y"], 0.123456, True),)), width=5)
    assert "0.1235" in text
    assert text.count("z") == 50
    assert "yes" in text


def test_a_terminal_gives_the_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "50")
    sample = Sample((("c", ["some words"] * 20, 1, True),))
    narrow = max(map(len, render(sample).splitlines()))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)
    assert narrow <= 50 < max(map(len, render(sample).splitlines())) <= 100


def test_json_holds_the_result_and_its_rows() -> None:
    data = json.loads(render(SAMPLE, "json"))
    assert data["type"] == "Sample"
    assert data["version"] == 1
    assert data["rows"][0] == {"cycle": "pay", "exits": ["ship", "reject"], "mean_rounds": 0.123456789, "sure": True}
    odd = json.loads(render(Sample((("\ud800", [INF], NAN, -INF),)), "json"), parse_constant=pytest.fail)
    assert odd["rows"][0] == {"cycle": "\ud800", "exits": ["inf"], "mean_rounds": None, "sure": "-inf"}


def test_csv_has_all_digits() -> None:
    assert render(SAMPLE, "csv").split("\r\n")[:2] == [
        "cycle,exits,mean_rounds,sure",
        "pay,ship; reject,0.123456789,true",
    ]


def test_markdown_escapes_its_cells() -> None:
    lines = render(SAMPLE, "markdown").splitlines()
    assert lines[0] == r"**Loops of \[orders\]**"
    assert lines[3] == "| --- | --- | ---: | --- |"
    assert lines[5] == r"| hold_back\|&lt;b&gt; |  | 12 | no |"
    assert r"| \_\_init\_\_ a\*b |" in render(Sample((("__init__ a*b", 1, 1, 1),)), "markdown")


@pytest.mark.parametrize("format", ["table", "json", "csv", "markdown"])
def test_a_result_without_rows(format: TableFormat) -> None:
    assert render(Sample(), format).strip()


def test_an_unknown_format() -> None:
    with pytest.raises(OutputError, match="'xml': it is one of table, json, csv, markdown"):
        render(SAMPLE, "xml")  # type: ignore[arg-type]


@given(samples)
def test_any_cells_can_be_shown(sample: Sample) -> None:
    assert len(list(csv.reader(io.StringIO(render(sample, "csv"), newline="")))) == len(sample.lines) + 1
    assert len(json.loads(render(sample, "json"))["rows"]) == len(sample.lines)
    table = [line for line in render(sample, "markdown").splitlines() if line.startswith("|")]
    assert len(table) == len(sample.lines) + 2
    assert render(sample).encode()
    assert str(sample)
    assert sample._repr_html_().count("<tr>") == len(sample.lines) + 1


def test_plain_text_is_aligned() -> None:
    lines = str(SAMPLE).splitlines()
    assert lines[1:3] == [
        "cycle          exits         mean rounds  sure",
        "pay            ship, reject       0.1235  yes",
    ]
