"""Labels and renderings are made when they are missing, and refused when they are of something else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mien.errors import ConfigError
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
    with pytest.raises(ConfigError, match=r"face_landmark\.tflite: no such file"):
        teacher.complete(tmp_path, roots, tmp_path, None, 1, lambda _: None)
    said: list[str] = []
    teacher.complete(ferplus[1], roots, None, None, 1, said.append)  # all there: nothing to do
    assert said == []
