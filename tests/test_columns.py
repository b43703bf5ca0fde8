import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowstat.errors import TraceError
from flowstat.read.columns import Columns, find_columns
from flowstat.read.mapping import Mapping
from tests.real_data import real_data


def found(names: str, **mapping: str) -> Columns:
    return find_columns(names.split(), Mapping(**mapping), "t.csv")  # type: ignore[arg-type]


def refusal(names: str, **mapping: str) -> str:
    with pytest.raises(TraceError) as caught:
        found(names, **mapping)
    return str(caught.value)


@pytest.mark.parametrize(
    ("names", "case", "activity", "time"),
    [
        ("case:concept:name concept:name time:timestamp", "case:concept:name", "concept:name", "time:timestamp"),
        ("Timestamp Activity CaseID", "CaseID", "Activity", "Timestamp"),
        ("case_id activity timestamp", "case_id", "activity", "timestamp"),
        ("CASE-ID TASK", "CASE-ID", "TASK", None),
        ("case concept:name activity time", "case", "concept:name", "time"),
        ("traceId name startTime", "traceId", "name", "startTime"),
        ("case_id activity start_timestamp end_timestamp", "case_id", "activity", "start_timestamp"),
        ("case_id trace_id activity", "case_id", "activity", None),
    ],
)
def test_usual_names_of_logs(names: str, case: str, activity: str, time: str | None) -> None:
    columns = found(names)
    assert (columns.shape, columns.case, columns.activity, columns.time) == ("log", case, activity, time)


def test_a_log_with_a_trace_id_keeps_its_case_id() -> None:
    assert found("case_id activity trace_id").case == "case_id"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (
            "TraceID SpanID ParentID PodName OperationName StartTimeUnixNano EndTimeUnixNano Duration",
            Columns(
                "spans",
                trace="TraceID",
                span="SpanID",
                parent="ParentID",
                name="OperationName",
                started="StartTimeUnixNano",
                ended="EndTimeUnixNano",
                worker="PodName",
                pod=True,
            ),
        ),
        (  # OpenTelemetry's ClickHouse exporter
            "Timestamp TraceId SpanId ParentSpanId SpanName SpanKind ServiceName Duration StatusCode StatusMessage",
            Columns(
                "spans",
                trace="TraceId",
                span="SpanId",
                parent="ParentSpanId",
                name="SpanName",
                started="Timestamp",
                duration="Duration",
                status="StatusCode",
                service="ServiceName",
            ),
        ),
        (  # Zipkin's names
            "traceId id parentId name timestamp duration localEndpoint.serviceName",
            Columns(
                "spans",
                trace="traceId",
                span="id",
                parent="parentId",
                name="name",
                started="timestamp",
                service="localEndpoint.serviceName",
            ),
        ),
        (  # canonical, but for the send pattern
            "trace_id span_id parent_id parent name key sent_at started_at ended_at status worker",
            Columns(
                "spans",
                trace="trace_id",
                span="span_id",
                parent="parent_id",
                name="name",
                started="started_at",
                ended="ended_at",
                status="status",
                worker="worker",
                key="key",
                sent_at="sent_at",
            ),
        ),
        (
            "trace_id span_id parent_span_id operation service start_time duration_us",
            Columns(
                "spans",
                trace="trace_id",
                span="span_id",
                parent="parent_span_id",
                name="operation",
                started="start_time",
                duration="duration_us",
                unit=1000,
                service="service",
            ),
        ),
    ],
)
def test_usual_names_of_spans(names: str, expected: Columns) -> None:
    assert found(names) == expected


def test_spans_win_only_with_span_and_parent() -> None:
    both = "case_id activity trace_id span_id parent_id"
    assert found(both).shape == "spans"
    assert found(both, case="case_id").shape == "log"
    assert found(both, name="activity").name == "activity"
    assert found("case_id activity id").shape == "log"


def test_span_ids_without_a_parent_are_not_taken_for_a_log() -> None:
    assert refusal("trace_id span_id caller name").startswith(
        "t.csv: no column is known to be the parent's id: name it with --parent; it has the columns 'trace_id', "
    )
    assert found("trace_id span_id caller name", parent="caller").parent == "caller"


def test_choices_win_over_usual_names() -> None:
    columns = found("case_id order activity step at", case="order", activity="step", time="at")
    assert (columns.case, columns.activity, columns.time) == ("order", "step", "at")
    assert found("trace_id span_id parent_id a b when", trace="a", name="b", time="when") == Columns(
        "spans", trace="a", span="span_id", parent="parent_id", name="b", started="when"
    )


def test_missing_columns_name_the_option() -> None:
    assert refusal("activity when").startswith("t.csv: no column is known to be the case: name it with --case; it has")
    assert "name it with --activity" in refusal("case_id when")
    assert "name it with --span" in refusal("t n", trace="t")
    assert refusal("").endswith("no columns; spans are read with --trace, --span, --parent and --name")
    assert "'c20'" not in refusal(" ".join(f"c{k}" for k in range(30)))
    assert "and 10 more" in refusal(" ".join(f"c{k}" for k in range(30)))


def test_a_chosen_column_that_is_not_there() -> None:
    assert refusal("case_id activity", case="CaseId") == (
        "t.csv has no column 'CaseId' (--case); did you mean 'case_id'?"
    )
    assert "did you mean 'activity'?" in refusal("case_id activity", activity="actvity")
    assert "it has the columns 'case_id', 'activity'" in refusal("case_id activity", time="zzz")
    assert "has no column ''" in refusal("case_id activity", time="")


def test_ambiguous_columns() -> None:
    assert refusal("CaseID case_id activity") == ("t.csv: 'CaseID' and 'case_id' may both be meant: choose with --case")
    assert found("CaseID case_id activity", case="CaseID").case == "CaseID"
    assert "choose with --name" in refusal("trace_id span_id parent_id name operation")


def test_a_column_twice() -> None:
    assert "the column 'activity' is there 2 times" in refusal("case_id activity activity")
    assert found("case_id activity other other").case == "case_id"


def test_a_table_is_one_or_the_other() -> None:
    assert "--case names a column of a log and --span one of spans" in refusal("a b", case="a", span="b")


def test_a_template_needs_no_name() -> None:
    assert found("trace_id span_id parent_id route", node="{route}").name is None
    assert found("case_id route", node="{route}").activity is None


@given(
    st.lists(st.text(max_size=8) | st.sampled_from(["case_id", "activity", "TraceID", "SpanID", "ParentID", "name"]))
)
def test_any_names(names: list[str]) -> None:
    try:
        columns = find_columns(names, Mapping(), "t.csv")
    except TraceError:
        return
    needed = (
        (columns.case, columns.activity) if columns.shape == "log" else (columns.trace, columns.span, columns.parent)
    )
    assert all(name in names for name in needed)


@pytest.mark.oracle
def test_real_headers() -> None:
    with real_data("receipt.csv").open(encoding="utf-8") as file:
        columns = find_columns(next(csv.reader(file)), Mapping(), "receipt.csv")
    assert (columns.case, columns.activity, columns.time) == ("case:concept:name", "concept:name", "time:timestamp")
