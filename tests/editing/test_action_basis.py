"""Editing by facial actions: the shipped displacements, requests in words, and what is read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import mien
from mien.actions import ACTIONS, GAZE, MIRROR, named
from mien.editing.action_basis import ActionBasis
from mien.editing.edit_files import EditSettings
from mien.editing.editor import Editor
from mien.editing.target import Target
from mien.errors import ConfigError
from mien.landmarks import MIRROR as MIRRORED_POINTS
from mien.types import Reading


@pytest.fixture(scope="module")
def editor() -> Editor:
    return Editor.load(threads=1)


def test_the_sides_mirror_each_other_and_gaze_moves_nothing() -> None:
    basis = ActionBasis.load()
    other = basis.displacement[:, MIRRORED_POINTS] * [-1, 1, 1]
    np.testing.assert_allclose(other[MIRROR], basis.displacement, atol=1e-6)
    np.testing.assert_allclose(basis.gain[MIRROR], basis.gain)
    assert {"mouthSmileLeft", "jawOpen", "browInnerUp"} <= set(basis.editable)
    assert not any(name.startswith(GAZE) for name in basis.editable)


def test_a_large_change_moves_no_further_than_the_head_can() -> None:
    basis, change = ActionBasis.load(), np.zeros(52)
    place = ACTIONS.index("jawOpen")
    change[place] = 1
    most = np.abs(basis.displacement[place]).max()
    assert np.abs(basis.moved(change)).max() <= 1.25 * most + 1e-9
    np.testing.assert_allclose(basis.moved(0.1 * change), 0.1 * basis.gain[place] * basis.displacement[place])


def test_requests_name_actions_sides_and_units() -> None:
    assert Target.parse_actions("smile=0.6, browInnerUp=.4").actions == {
        "mouthSmileLeft": 0.6, "mouthSmileRight": 0.6, "browInnerUp": 0.4,
    }  # fmt: skip
    assert Target.parse_actions("AU12_L=1").actions == {"mouthSmileLeft": 1.0}
    assert named("MOUTHSMILE") == named("AU12") == ("mouthSmileLeft", "mouthSmileRight")
    assert named("mouthLeft") == ("mouthLeft",)
    both = Target.parse("happiness:0.5") & Target.of_actions({"jawOpen": 0.2})
    assert (both.strengths, both.actions) == ({"happiness": 0.5}, {"jawOpen": 0.2})
    assert not both.is_neutral
    assert str(both) == "happiness:0.5 and jawOpen=0.2"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("smlie=0.5", "smlie.*no facial action"),
        ("mouthSmil=0.5", "did you mean 'mouthSmile'"),
        ("smile", "not action=value"),
        ("smile=much", "not action=value"),
        ("smile=1.4", "0 to 1"),
        ("eyeLookUp=0.3", "direction of the eyes"),
        ("up=0.3", "no facial action"),
        ("", "not action=value"),
    ],
)
def test_a_wrong_request_is_named(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        Target.parse_actions(text)


def test_a_value_replaces_what_is_measured_and_a_change_is_added() -> None:
    target = Target.of_actions({"jawOpen": 0.5})
    place = ACTIONS.index("jawOpen")
    assert target.action_changes({"jawOpen": 0.2})[place] == pytest.approx(0.3)
    assert target.action_changes({"jawOpen": 0.2}, relative=True)[place] == pytest.approx(0.5)
    assert target.action_changes({"jawOpen": None})[place] == pytest.approx(0.5)
    assert np.count_nonzero(target.action_changes({})) == 1


def test_a_face_to_follow_gives_its_measured_actions_without_gaze() -> None:
    shares = dict.fromkeys(mien.EXPRESSIONS, 1 / 8)
    actions = {"jawOpen": 0.3, "eyeLookUpLeft": 0.9, "tongueOut": None}
    reading = Reading(shares, 0.0, 0.0, None, False, actions=actions)
    assert Target.of_face(reading, "her.jpg").actions == {"jawOpen": 0.3}
    with pytest.raises(ConfigError, match="actions=True"):
        Target.of_face(Reading(shares, 0.0, 0.0, None, False), "her.jpg")


@pytest.mark.parametrize("name", ["mouthSmile", "jawOpen", "browInnerUp"])
def test_an_edited_action_is_read_back_and_the_rest_stays(editor: Editor, examples: Path, name: str) -> None:
    edit = editor(examples / "portrait_neutral.jpg", Target.of_actions({name: 0.4}), relative=True)
    assert edit.before is not None
    assert edit.after is not None
    before, after = edit.before.actions, edit.after.actions
    for action in named(name):
        assert (after[action] or 0) - (before[action] or 0) > 0.15
    rest = [
        abs((after[other] or 0) - (before[other] or 0))
        for other in ACTIONS
        if other not in named(name) and before[other] is not None
    ]
    assert np.mean(rest) < 0.1
    assert edit.faces[0].asked == dict.fromkeys(named(name), 0.4)


def test_nothing_asked_of_a_face_that_shows_it_changes_nothing(editor: Editor, examples: Path) -> None:
    before = editor.pipeline(examples / "portrait_smiling.jpg").faces[0].reading
    edit = editor(examples / "portrait_smiling.jpg", Target.of_face(before, "itself"))
    # The face is located again after the edit, so a few points may move by a fraction of a pixel.
    assert edit.before is not None
    assert np.abs(edit.image.astype(int) - edit.original.rgb).mean() < 0.5


def test_photos_of_one_name_are_not_the_same_request() -> None:
    one, other = (
        EditSettings(target=Target({}, "like her.jpg", {"jawOpen": value})).settings({})
        for value in (0.2, 0.6)
    )
    assert one["target"] == other["target"]
    assert one != other
    assert "target_actions" not in EditSettings(target=Target.parse("happiness")).settings({})
