"""Tables of analyses that a client has: the rows are those that the package writes."""

from __future__ import annotations

import io
import json
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from mien.faces.pipeline import Pipeline
from mien.io.columns import columns_of, rows
from mien.io.tables import Writer
from mien.types import Analysis

from .conftest import Serve

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def analyses(pipeline: Pipeline) -> list[Analysis]:
    found = pipeline([ROOT / "examples" / "group_1.jpg"])
    return [*found, Analysis("empty.jpg", 20, 20), Analysis("bad.jpg", 0, 0, error="bad.jpg: not a picture")]


def lines(analyses: list[Analysis]) -> bytes:
    return "".join(analysis.to_json() + "\n" for analysis in analyses).encode()


@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("landmarks", [True, False])
def test_a_table_is_the_one_that_the_package_writes(
    serve: Serve, analyses: list[Analysis], tmp_path: Path, format: str, landmarks: bool
) -> None:
    if format == "parquet":
        pytest.importorskip("pyarrow")
    fields = {"format": format, "landmarks": str(landmarks).lower()}
    answer = serve().post("/v1/tables", files={"file": ("pictures.jsonl", lines(analyses))}, data=fields)
    assert answer.status_code == 200
    assert answer.headers["content-disposition"] == f'attachment; filename="table.{format}"'
    with Writer(tmp_path / f"table.{format}", landmarks=landmarks) as table:
        for analysis in analyses:
            table.write(analysis)
    assert answer.content == (tmp_path / f"table.{format}").read_bytes()


def test_a_parquet_table_has_the_types_of_the_columns(serve: Serve, analyses: list[Analysis]) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    options = {"format": "parquet", "landmarks": "false", "columns": "mien"}
    answer = serve().post(
        "/v1/tables", content=lines(analyses), params=options, headers={"content-type": "application/jsonl"}
    )
    table = parquet.read_table(io.BytesIO(answer.content))
    assert table.column_names == [column.name for column in columns_of(landmarks=False)]
    assert table.to_pylist() == [row for analysis in analyses for row in rows(analysis, landmarks=False)]


def test_a_change_from_a_baseline_has_its_columns(serve: Serve, pipeline: Pipeline) -> None:
    portrait = ROOT / "examples" / "portrait_smiling.jpg"
    changed = pipeline(portrait).relative_to(pipeline.baseline(ROOT / "examples" / "portrait_neutral.jpg"))
    answer = serve().post("/v1/tables", files={"file": lines([changed])})
    assert "valence_change" in answer.text.splitlines()[0].split(",")


@pytest.mark.parametrize(
    ("body", "fields", "code", "said"),
    [
        (b"{}\n", {}, "wrong_value", "line 1: not an analysis: source"),
        (b"[1\n", {}, "wrong_value", "line 1: not an analysis: not JSON"),
        (b"\xff\xfe\n", {}, "wrong_value", "not UTF-8"),
        (b"\n", {}, "wrong_value", "no analysis"),
        (b"{}\n", {"format": "xlsx"}, "wrong_value", "format"),
        (b"{}\n", {"columns": "own"}, "wrong_value", "columns"),
        (b"{}\n", {"colour": "red"}, "wrong_value", "colour"),
    ],
)
def test_what_is_no_analysis_is_refused(
    serve: Serve, body: bytes, fields: dict[str, str], code: str, said: str
) -> None:
    answer = serve().post("/v1/tables", files={"file": ("pictures.jsonl", body)}, data=fields)
    assert answer.status_code == 422
    assert answer.json()["error"] == code
    assert said in answer.json()["message"]


def test_other_labels_and_missing_points_are_refused(serve: Serve, analyses: list[Analysis]) -> None:
    values = analyses[0].to_dict()
    values["faces"][0]["landmarks"]["points"] = []
    body = json.dumps(values).encode()
    answer = serve().post("/v1/tables", files={"file": body})
    assert answer.status_code == 422
    assert "landmarks" in answer.json()["message"]
    values["faces"][0]["reading"]["probabilities"] = {"bored": 1.0}
    answer = serve().post(
        "/v1/tables", files={"file": json.dumps(values).encode()}, data={"landmarks": "false"}
    )
    assert answer.status_code == 422
    assert "bored" in answer.json()["message"]


def test_parquet_is_offered_where_it_can_be_written(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    assert serve().get("/v1/service").json()["parquet"] is bool(find_spec("pyarrow"))


def test_too_large_a_table_says_what_to_leave_out(serve: Serve) -> None:
    from mien.server.limits import Limits

    answer = serve(limits=Limits(running=1, bytes=1000)).post("/v1/tables", files={"file": b" " * 2000})
    assert answer.status_code == 413
    assert "fewer pictures" in answer.json()["message"]
