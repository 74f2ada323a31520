"""The files of faces to learn from: exact points lie in the coordinates of the points that the network is given."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mien.actions import ACTIONS
from mien.data.readers import manifest, rendered
from mien.data.records import Record
from mien.errors import ConfigError
from mien.faces.landmarker import Landmarker
from mien.io import images
from mien.training.actions import faces

FACE = np.s_[110:378, 118:386]
"""The face in the portrait, with a little around it."""


def test_the_exact_points_of_a_rendering_are_in_the_coordinates_of_the_crop(
    examples: Path, tmp_path: Path
) -> None:
    picture = np.ascontiguousarray(images.read(examples / "portrait_neutral.jpg")[FACE])
    height, width = picture.shape[:2]
    points, _, _ = Landmarker.load(threads=1)(picture, np.array([[0, 0, width - 1, height - 1]]))
    exact = points[0] + [0.02 * width, 0]
    (tmp_path / "pictures" / "00000").mkdir(parents=True)
    images.write(tmp_path / "pictures" / "00000" / "00.png", picture)
    attributes: dict[str, float | str] = {"person": "unseen", "gaze_yaw": 0.0, "gaze_pitch": 0.0}
    attributes |= dict.fromkeys(ACTIONS, 0.25)
    record = Record(
        path=tmp_path / "pictures" / "00000" / "00.png", split="test", subject="00000", name="00000/00.png",
        attributes=attributes,
    )  # fmt: skip
    manifest.write([record], tmp_path / rendered.TABLE)
    np.savez(tmp_path / rendered.POINTS, names=np.array([record.name]), points=exact[None])
    made = {"version": rendered.VERSION, "identities": 1, "images": 1}
    (tmp_path / rendered.FILE).write_text(json.dumps(made))

    kept = faces.known(tmp_path, None)
    np.savez(tmp_path / "rendered.npz", **kept)
    read = faces.read(tmp_path, [], renders=True)["rendered"]
    apart = read.places[0] - read.points[0]
    # A face is upright in its crop: the points lie to the right, all by the same.
    assert (apart[:, 0] > 0.01).all()
    assert np.ptp(apart, axis=0).max() < 1e-5
    assert (read.actions == 0.25).all()


def test_pictures_without_any_face_are_named_as_the_problem() -> None:
    with pytest.raises(ConfigError, match="no face"):
        faces._arrays([])
