"""Labels and renderings are made when they are missing, and refused when they are of something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mien.errors import ConfigError
from mien.landmarks import MIRROR, POINTS
from mien.training import checkpoint, face_mesh
from mien.training.face_mesh import VERTICES, Square
from mien.training.landmarks import teacher


def test_renderings_of_other_people_are_refused(tmp_path: Path) -> None:
    head = tmp_path / "head.npz"
    head.write_bytes(b"a head")
    made = np.array(teacher._made_of(head, range(10), 3))
    np.savez(tmp_path / "rendered_train.npz", made_of=made)
    np.savez(
        tmp_path / "rendered_test.npz", made_of=np.array(teacher._made_of(head, range(10_000, 10_001), 3))
    )
    teacher.complete(tmp_path, {}, None, head, 10, lambda line: None)
    with pytest.raises(ConfigError, match=r"rendered_train\.npz.*remove it"):
        teacher.complete(tmp_path, {}, None, head, 20, lambda line: None)


def test_missing_labels_need_the_teacher_and_its_files(ferplus: tuple[Path, Path], tmp_path: Path) -> None:
    roots = {"ferplus_test": ferplus[0]}
    with pytest.raises(ConfigError, match="'teacher'"):
        teacher.complete(tmp_path, roots, None, None, 1, lambda _: None)
    with pytest.raises(ConfigError, match=r"face_landmarker\.task: no such file"):
        teacher.complete(tmp_path, roots, tmp_path / "face_landmarker.task", None, 1, lambda _: None)
    said: list[str] = []
    teacher.complete(ferplus[1], roots, None, None, 1, said.append)  # all there: nothing to do
    assert said == []


class OneSided:
    """A mesh network that places a symmetrical face in the middle of a picture 3 pixels too far to the right."""

    def __init__(self, points: np.ndarray[Any, Any], rigid: np.ndarray[Any, Any]) -> None:
        self.mesh = np.zeros((VERTICES, 3))
        self.mesh[teacher.RIGID_VERTICES] = rigid
        self.mesh[teacher._VERTICES, :2] = points  # those that are also rigid keep their depth

    def __call__(self, image: np.ndarray[Any, Any], square: Square) -> tuple[np.ndarray[Any, Any], float]:
        return self.mesh + np.array([3, 0, 0]), 0.95


def test_a_label_is_the_mean_of_the_picture_and_its_mirror_image(monkeypatch: pytest.MonkeyPatch) -> None:
    width, random = 101, np.random.default_rng(0)
    points = random.uniform(20, 80, (len(POINTS), 2))
    points = (points + points[MIRROR] * [-1, 1] + [width - 1, 0]) / 2
    rigid = random.uniform(20, 80, (len(teacher.RIGID_VERTICES), 3))
    rigid = (rigid + rigid[teacher._RIGID_MIRROR] * [-1, 1, 1] + [width - 1, 0, 0]) / 2
    one_sided = OneSided(points, rigid)
    monkeypatch.setattr(face_mesh, "networks", lambda task, names: [None])
    monkeypatch.setattr(
        teacher, "FaceMesh", type("Stub", (), {"name": "", "__new__": lambda cls, _: one_sided})
    )
    label = teacher.Teacher(Path("any"))(np.zeros((101, width, 3), np.uint8), np.array([0, 0, 100, 100]))
    np.testing.assert_allclose(label.points, one_sided.mesh[teacher._VERTICES, :2])
    np.testing.assert_allclose(label.rigid, one_sided.mesh[teacher.RIGID_VERTICES])
    assert label.score == pytest.approx(0.95)


def test_each_point_has_a_vertex_of_its_own() -> None:
    assert len(set(teacher._VERTICES)) == len(POINTS)


def test_labels_of_another_teacher_are_refused(ferplus: tuple[Path, Path], tmp_path: Path) -> None:
    """Points of two teachers lie at different places, and nothing else would tell that a set mixes them."""
    task, roots = tmp_path / "face_landmarker.task", {"ferplus_test": ferplus[0]}
    task.write_bytes(b"a teacher")
    with np.load(ferplus[1] / "ferplus_test.npz") as labels:
        arrays = dict(labels)
    for told in ({}, {"teacher": np.array("0" * 64)}):  # older labels do not say who made them
        teacher.save(tmp_path / "ferplus_test.npz", {**arrays, **told})
        with pytest.raises(
            ConfigError, match=r"ferplus_test\.npz: was labelled by another teacher.*remove it"
        ):
            teacher.complete(tmp_path, roots, task, None, 1, lambda _: None)
    teacher.save(tmp_path / "ferplus_test.npz", {**arrays, "teacher": np.array(checkpoint.digest(task))})
    teacher.complete(tmp_path, roots, task, None, 1, lambda _: None)
