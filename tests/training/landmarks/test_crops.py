"""What the landmark network learns from: labels joined to pictures, and crops with their points."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from mien.data.duplicates import hash_of
from mien.data.synthetic.drawings import faces as drawn_faces
from mien.errors import DatasetDamaged
from mien.faces.landmarker import SIDE
from mien.landmarks import LEFT_EYE_CORNERS, RIGHT_EYE_CORNERS
from mien.training.landmarks import teacher
from mien.training.landmarks.crops import Draws, grey, held_out, read_faces, read_set

from .drawn import TURNED, faces_with_a_dot


def test_labels_join_by_name_and_doubtful_faces_are_left_out(ferplus: tuple[Path, Path]) -> None:
    root, labels = ferplus
    roots = {name: root for name in teacher.FACES if name.startswith("ferplus")}
    sets = read_faces(labels, roots, rendered=False)
    assert (len(sets["train"].images), len(sets["ferplus"].images)) == (27 + 5, 5)
    drawn = list(drawn_faces(40, size=48))
    assert np.allclose(sets["ferplus"].points[0], drawn[35].landmarks, atol=1e-4)
    assert (sets["ferplus"].images[0] == grey(drawn[35].pixels)).all()
    assert np.allclose(sets["ferplus"].pose, TURNED, atol=1e-3)


def test_a_picture_exchanged_since_it_was_labelled_is_refused(
    ferplus: tuple[Path, Path], tmp_path: Path
) -> None:
    root, labels = ferplus
    with np.load(labels / "ferplus_test.npz") as file:
        known = dict(file)
    content = [hash_of(image) for _, image in teacher.FACES["ferplus_test"](root)]
    np.savez(tmp_path / "ferplus_test.npz", **known, content=np.array(content))
    read_set(tmp_path, "ferplus_test", root)
    np.savez(tmp_path / "ferplus_test.npz", **known, content=np.array(content[1:] + content[:1]))
    with pytest.raises(DatasetDamaged, match="labels another picture named"):
        read_set(tmp_path, "ferplus_test", root)


def test_labels_of_other_pictures_are_refused(ferplus: tuple[Path, Path], tmp_path: Path) -> None:
    with np.load(ferplus[1] / "ferplus_test.npz") as file:
        np.savez(tmp_path / "ferplus_test.npz", **{**file, "names": ["another.png"] * len(file["names"])})
    with pytest.raises(DatasetDamaged, match="labelled again"):
        read_faces(tmp_path, {"ferplus_test": ferplus[0]}, rendered=False)


def test_points_stay_on_what_they_mark_in_every_drawn_crop() -> None:
    draws = Draws(faces_with_a_dot(), [], 4, 0.0, seed=1)
    for _ in range(60):
        crop, points, _ = draws.place()
        bright = np.argwhere(crop > 150)[:, ::-1]
        if len(bright) == 0:  # turned or moved out of the crop
            continue
        # A mirrored crop has the dot at the left eye's outer corner.
        near = min(
            np.linalg.norm(points[corner] - bright.mean(axis=0))
            for corner in (RIGHT_EYE_CORNERS[0], LEFT_EYE_CORNERS[0])
        )
        assert near < 2.5


def test_a_batch_holds_faces_and_crops_without_one() -> None:
    draws = Draws(faces_with_a_dot(), [(np.full((90, 120), 99, np.uint8), np.zeros((0, 4)))], 64, 0.5, seed=2)
    crops, points, pose, presence = (part.numpy() for part in next(iter(draws)))
    assert crops.shape == (64, 1, SIDE, SIDE)
    kinds = Counter(presence.tolist())
    assert min(kinds[0.0], kinds[1.0]) > 15
    assert np.isfinite(points[presence == 1]).all()
    assert np.isnan(points[presence == 0]).all()
    assert np.isnan(pose[presence == 0]).all()


def test_people_are_held_out_whole() -> None:
    names = np.array([f"Person_{n}_{k:04}.jpg" for n in range(200) for k in range(3)])
    out = held_out(names).reshape(200, 3)
    assert (out.all(axis=1) | ~out.any(axis=1)).all()
    assert 0.04 < out.mean() < 0.18


def test_batches_go_on_from_any_step() -> None:
    faces = faces_with_a_dot()
    whole = list(islice(Draws(faces, [], 4, 0.3, seed=5), 4))
    rest = list(islice(Draws(faces, [], 4, 0.3, seed=5, step=2), 2))
    for batch, expected in zip(rest, whole[2:], strict=True):
        for part, same in zip(batch, expected, strict=True):
            torch.testing.assert_close(part, same, equal_nan=True, rtol=0, atol=0)
    assert not torch.equal(whole[0].images, whole[1].images)
