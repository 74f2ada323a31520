"""Labels that are wrong on purpose."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mien.data import cropping
from mien.data.config import DataConfig
from mien.data.label_noise import with_wrong_labels
from mien.data.readers import manifest
from mien.data.records import Record
from mien.data.synthetic import drawings
from mien.evaluation import inference
from mien.labels import UNLABELLED


def records(count: int) -> list[Record]:
    made = []
    for place in range(count):
        true = place % 8
        votes = np.full(8, 0.02)
        votes[true], votes[(true + 3) % 8] = 0.7, 0.18
        made.append(Record(Path("x.png"), "train", true, votes=tuple(votes.tolist()), name=f"{place}.png"))
    return made


def test_the_share_gets_wrong_classes_evenly_and_votes_follow() -> None:
    clean = [*records(4000), Record(Path("y.png"), "train", UNLABELLED, name="none")]
    noisy = with_wrong_labels(clean, 0.25, 8)
    changed = [(a, b) for a, b in zip(clean, noisy, strict=True) if a != b]
    assert len(changed) == 1000
    assert noisy[-1] == clean[-1]
    shift = np.bincount([(b.expression - a.expression) % 8 for a, b in changed], minlength=8)
    assert shift[0] == 0
    assert (np.abs(shift[1:] - 1000 / 7) < 50).all(), shift
    for before, after in changed:
        assert int(np.argmax(after.votes)) == after.expression
        assert sorted(after.votes) == sorted(before.votes)


def test_the_choice_is_that_of_the_names_in_any_order() -> None:
    clean = records(300)
    named = {one.name: one for one in with_wrong_labels(clean, 0.2, 8)}
    again = with_wrong_labels(clean[::-1], 0.2, 8)
    assert all(named[one.name] == one for one in again)
    assert with_wrong_labels(clean, 0.0, 8) == clean


def test_a_run_learns_from_wrong_labels_and_is_validated_on_right_ones(tmp_path: Path) -> None:
    found = drawings.records(tmp_path, 40, size=48)
    marks = np.stack([face.landmarks for face in drawings.faces(40, size=48)]).astype(np.float32)
    np.savez(tmp_path / "points.npz", names=np.array([one.name for one in found]), points=marks)
    manifest.write(found, tmp_path / "manifest.csv")
    config = DataConfig(
        reader="manifest", root=tmp_path, points=tmp_path / "points.npz", size=32, cache=tmp_path / "cache"
    )
    noisy = config.model_copy(update={"label_noise": 0.5})
    splits = [cropping.load_split(one, ("train", "valid")) for one in (config, noisy)]
    (right, wrong), (valid, other) = ([one[split][0] for one in splits] for split in ("train", "valid"))
    assert right.names == wrong.names
    assert np.array_equal(right.images, wrong.images)
    assert (right.expression != wrong.expression).sum() == round(len(right) / 2)
    assert np.array_equal(valid.expression, other.expression)


def test_runs_without_it_stay_seeds_of_one_setting_with_older_ones() -> None:
    data = DataConfig(reader="ferplus", root=Path("x")).model_dump(mode="json")
    older = {key: value for key, value in data.items() if key not in ("label_noise", "where", "faces")}
    assert inference.group_of({"name": "a", "data": data}) == inference.group_of({"name": "a", "data": older})
    noisy = data | {"label_noise": 0.2}
    assert inference.group_of({"name": "a", "data": noisy}) != inference.group_of(
        {"name": "a", "data": older}
    )
