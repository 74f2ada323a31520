"""Results: frozen, equal by value, and the same after a journey through JSON."""

from __future__ import annotations

import dataclasses
import json

import pytest

from mien.errors import ConfigError
from mien.labels import BASIC, EXPRESSIONS
from mien.types import Analysis, Box, Detection, Face, Landmarks, Pose, Reading

SHARES = (0.1, 0.5, 0.05, 0.05, 0.05, 0.05, 0.1, 0.1)


@pytest.fixture
def reading() -> Reading:
    return Reading(dict(zip(EXPRESSIONS, SHARES, strict=True)), 0.4, -0.2, 0.6, False)


@pytest.fixture
def analysis(reading: Reading) -> Analysis:
    face = Face(
        Detection(Box(1.5, 2.25, 30.0, 40.0), 1 / 3),
        Landmarks(((1.0, 2.0), (3.5, 4.0)), 0.99),
        Pose(1.0, -2.0, 0.1),
        reading,
        0.7,
    )
    return Analysis("a\nphötö.jpg", 640, 480, (face, face), None, 7, 0.28, "card")


def test_a_box_knows_its_edges() -> None:
    box = Box(1, 2, 30, 40)
    assert (box.right, box.bottom, box.area) == (31, 42, 1200)
    assert box.corners == (1, 2, 31, 42)


def test_a_reading_names_its_best_label_and_the_seven_class_view(reading: Reading) -> None:
    assert (reading.expression, reading.probability) == ("happiness", 0.5)
    basic = reading.basic()
    assert tuple(basic) == BASIC
    assert sum(basic.values()) == pytest.approx(1)
    assert basic["happiness"] / basic["neutral"] == pytest.approx(5)
    only_contempt = dataclasses.replace(reading, probabilities=dict.fromkeys(BASIC, 0.0) | {"contempt": 1.0})
    assert set(only_contempt.basic().values()) == {1 / 7}


def test_a_face_passes_its_reading_on(analysis: Analysis, reading: Reading) -> None:
    face = analysis.faces[0]
    assert face.box == face.detection.box
    for name in ("expression", "probability", "probabilities", "valence", "arousal", "intensity"):
        assert getattr(face, name) == getattr(reading, name)


def test_nothing_can_be_written_to(analysis: Analysis) -> None:
    for value in (analysis, analysis.faces[0], analysis.faces[0].box, analysis.faces[0].reading):
        field = dataclasses.fields(value)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field, None)
        with pytest.raises((AttributeError, TypeError)):
            value.expresion = 1  # a slip of the pen is an error, not a new attribute


def test_json_gives_the_same_value_back_to_the_last_digit(analysis: Analysis) -> None:
    line = analysis.to_json()
    assert "\n" not in line
    assert "phötö" in line
    back = Analysis.from_json(line)
    assert back == analysis
    assert back.to_json() == line
    assert Analysis.from_dict(analysis.to_dict()) == analysis


def test_the_detector_s_points_and_turn_are_not_in_json(analysis: Analysis) -> None:
    face = analysis.faces[0]
    known = dataclasses.replace(face.detection, points=((1.0, 2.0),) * 5, roll=90.0)
    other = dataclasses.replace(
        analysis, faces=(dataclasses.replace(face, detection=known), *analysis.faces[1:])
    )
    assert other.to_json() == analysis.to_json()
    assert other == analysis


def test_an_empty_picture_is_an_empty_tuple() -> None:
    empty = Analysis("a.jpg", 3, 4)
    assert Analysis.from_json(empty.to_json()).faces == ()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("faces",), None),
        (("width",), "wide"),
        (("faces", 0, "reading", "valence"), "good"),
        (("faces", 0, "detection"), {}),
        (("faces", 0, "emotion"), "happy"),
        (("widht",), 3),
    ],
)
def test_wrong_missing_and_unknown_fields_are_refused(
    analysis: Analysis, path: tuple[str | int, ...], value: object
) -> None:
    tree = json.loads(analysis.to_json())
    node = tree
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value
    with pytest.raises(ConfigError, match=str(path[-1])) as caught:
        Analysis.from_dict(tree)
    assert "\n" not in str(caught.value)


def test_a_missing_field_is_refused(analysis: Analysis) -> None:
    tree = analysis.to_dict()
    del tree["source"]
    with pytest.raises(ConfigError, match="source"):
        Analysis.from_dict(tree)


@pytest.mark.parametrize("line", ["", "{", "[]", "null", '"text"'])
def test_a_line_that_is_no_analysis_is_refused(line: str) -> None:
    with pytest.raises(ConfigError, match="not an analysis"):
        Analysis.from_json(line)


def test_a_face_prints_as_one_line(analysis: Analysis, reading: Reading) -> None:
    line = "Face(happiness 0.50, v +0.40, a -0.20, box 2, 2, 30 x 40, quality 0.70)"
    assert repr(analysis.faces[0]) == line
    assert repr(analysis).count("\n") == 1
    assert repr(analysis).splitlines()[0] == f"Analysis('a\\nphötö.jpg', frame 7, 640 x 480, {line}"
    one = dataclasses.replace(analysis, source="a.jpg", frame=None, faces=analysis.faces[:1])
    assert repr(one) == f"Analysis('a.jpg', 640 x 480, {line})"
    assert repr(dataclasses.replace(one, faces=())) == "Analysis('a.jpg', 640 x 480, no face)"
    assert repr(dataclasses.replace(one, error="no such file")) == "Analysis('a.jpg', error 'no such file')"
    unsure = dataclasses.replace(reading, uncertain=True, arousal=-0.001)
    assert repr(dataclasses.replace(analysis.faces[0], reading=unsure)).startswith(
        "Face(happiness? 0.50, v +0.40, a +0.00"
    )
    assert len(repr(analysis.faces[0].landmarks)) < 60
    assert Analysis.from_json(analysis.to_json()) == analysis, "JSON keeps what is not printed"


def test_intersection_over_union() -> None:
    box = Box(10, 20, 30, 40)
    assert box.iou(box) == 1
    half = Box(25, 20, 30, 40)
    assert box.intersection(half) == half.intersection(box) == 600
    assert box.iou(half) == half.iou(box) == pytest.approx(600 / 1800)
    assert box.intersection(Box(40, 20, 5, 5)) == box.iou(Box(40, 20, 5, 5)) == 0  # they touch
    assert box.iou(Box(100, 200, 5, 5)) == 0
    assert Box(0, 0, 0, 0).iou(Box(0, 0, 0, 0)) == 0
