"""`mien train` with a landmarks configuration: labels, training, export, figures and card, on drawn faces."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from mien.cli.main import app
from mien.data.duplicates import hash_of
from mien.data.readers.ferplus import FOLDERS, USAGES, VOTE_FILE
from mien.data.synthetic.drawings import faces as drawn_faces
from mien.errors import ConfigError, DatasetDamaged
from mien.faces.landmarker import SIDE, Landmarker
from mien.io import cards, images
from mien.landmarks import LEFT_EYE_CORNERS, POINTS, RIGHT_EYE_CORNERS
from mien.training.landmarks import teacher
from mien.training.landmarks.crops import Draws, Faces, grey, held_out, read_faces, read_set
from mien.training.landmarks.network import MODES
from mien.training.landmarks.train import configured, measure, point_modes

TURNED = np.array([20.0, -10.0, 5.0])


def rigid_of(count: int) -> np.ndarray:
    """Rigid vertices of heads turned by `TURNED`, as the teacher gives them: y down, z away from the viewer."""
    from mien.data.synthetic.head import rotation

    return np.tile((teacher._STRAIGHT @ rotation(TURNED).T) * [1, -1, -1], (count, 1, 1)).astype(np.float32)


@pytest.fixture(scope="module")
def ferplus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Drawn faces in FERPlus's layout, and their labels as the teacher writes them."""
    root, labels = tmp_path_factory.mktemp("ferplus"), tmp_path_factory.mktemp("labels")
    drawn = list(drawn_faces(40, size=48))
    table, number = [], 0
    for usage, folder in USAGES.items():
        count = 28 if usage == "Training" else 6
        (root / folder).mkdir()
        some, names = drawn[number : number + count], []
        for face in some:
            names.append(f"fer{number:07}.png")
            images.write(root / folder / names[-1], face.pixels)
            table.append([usage, names[-1], 10, *[0] * 9])
            number += 1
        np.savez(
            labels / f"ferplus_{FOLDERS[folder]}.npz",
            names=names,
            points=np.stack([face.landmarks for face in some]).astype(np.float32),
            rigid=rigid_of(count),
            score=np.array([0.5] + [1.0] * (count - 1)),  # the teacher doubts the first
        )
    with (root / "fer2013new.csv").open("w", newline="") as file:
        csv.writer(file).writerows([VOTE_FILE, *table])
    return root, labels


def tree_of(ferplus: tuple[Path, Path], out: Path, **more: object) -> dict[str, object]:
    root, labels = ferplus
    method = {"name": "landmarks", "widths": [4, 4, 8, 8]}
    places = {"labels": str(labels), "ferplus": str(root), "out": str(out)}
    return {"method": method, **places, "steps": 3, "batch": 4, "workers": 0, **more}


def test_one_command_trains_exports_measures_and_writes_the_card(
    ferplus: tuple[Path, Path], tmp_path: Path
) -> None:
    config = tmp_path / "landmarks.yaml"
    config.write_text(yaml.safe_dump(tree_of(ferplus, tmp_path / "run")))
    done = CliRunner().invoke(app, ["train", str(config)])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "run").as_posix() in done.output
    weights = tmp_path / "run" / "landmarks.onnx"
    _, card = cards.verified(weights)
    assert card.fields["recipe"]["steps"] == 3
    assert card.fields["recipe"]["config"]["method"]["widths"] == [4, 4, 8, 8]
    assert str(tmp_path) not in card.text()  # a card says nothing of the machine
    (figure,) = card.fields["metrics"]["error_percent"]
    assert figure == "ferplus, 48 px, n=5"
    points, presence, pose = Landmarker.load(weights, threads=1)(
        np.zeros((48, 48, 3), np.uint8), np.array([[0, 0, 47, 47]], np.float32)
    )
    assert (points.shape, presence.shape, pose.shape) == ((1, len(POINTS), 2), (1,), (1, 3))

    again = CliRunner().invoke(app, ["train", str(config)])
    assert again.exit_code != 0
    assert isinstance(again.exception, ConfigError)
    assert "--resume" in str(again.exception)
    other = CliRunner().invoke(app, ["train", str(config), "--resume", "--set", "rate=0.1"])
    assert "rate is 0.002 there, 0.1 here" in str(other.exception)
    further = CliRunner().invoke(app, ["train", str(config), "--resume", "--set", "steps=5"])
    assert further.exit_code == 0, further.output
    assert cards.read(weights.with_suffix(".json")).fields["recipe"]["steps"] == 5


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


def test_labels_of_other_pictures_are_refused(ferplus: tuple[Path, Path], tmp_path: Path) -> None:
    with np.load(ferplus[1] / "ferplus_test.npz") as file:
        np.savez(tmp_path / "ferplus_test.npz", **{**file, "names": ["another.png"] * len(file["names"])})
    with pytest.raises(DatasetDamaged, match="labelled again"):
        read_faces(tmp_path, {"ferplus_test": ferplus[0]}, rendered=False)


def test_missing_labels_need_the_teacher_and_its_files(ferplus: tuple[Path, Path], tmp_path: Path) -> None:
    roots = {"ferplus_test": ferplus[0]}
    with pytest.raises(ConfigError, match="'teacher'"):
        teacher.complete(tmp_path, roots, None, None, 1, lambda _: None)
    with pytest.raises(ConfigError, match=r"face_landmark\.tflite: no such file"):
        teacher.complete(tmp_path, roots, tmp_path, None, 1, lambda _: None)
    said: list[str] = []
    teacher.complete(ferplus[1], roots, None, None, 1, said.append)  # all there: nothing to do
    assert said == []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"stepps": 3}, "stepps"),
        ({"steps": 0}, "steps"),
        ({"ferplus": None}, "nothing to learn from"),
        ({"method": {"name": "landmarks", "width": 3}}, r"method\.width"),
    ],
)
def test_a_wrong_configuration_is_refused(
    ferplus: tuple[Path, Path], tmp_path: Path, change: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        configured({**tree_of(ferplus, tmp_path), **change}, "landmarks.yaml")


def test_the_configuration_that_ships_is_one() -> None:
    shipped = Path(__file__).parent.parent / "configs" / "landmarks.yaml"
    config = configured(yaml.safe_load(shipped.read_text()), str(shipped))
    assert set(config.roots) == set(teacher.FACES)


def faces_with_a_dot(count: int = 12) -> Faces:
    """Grey faces of 100 px with a white dot at the right eye's outer corner."""
    random, drawn = np.random.default_rng(0), list(drawn_faces(count, size=100))
    pictures = []
    for face in drawn:
        picture = np.full((100, 100), 60, np.uint8)
        x, y = np.round(face.landmarks[RIGHT_EYE_CORNERS[0]]).astype(int)
        picture[y - 2 : y + 3, x - 2 : x + 3] = 255
        pictures.append(picture)
    return Faces(pictures, np.stack([face.landmarks for face in drawn]), random.normal(0, 5, (count, 3)))


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


def test_the_modes_span_the_drawn_points() -> None:
    draws = Draws(faces_with_a_dot(), [], 4, 0.0, seed=3)
    mean, modes = (part.numpy() for part in point_modes(draws))
    assert modes.shape == (MODES, 2 * len(POINTS))
    place = draws.place()[1].ravel() / SIDE + 0.5 / SIDE - mean
    left = place - place @ np.linalg.pinv(modes) @ modes
    assert np.abs(left).max() < 0.01  # of the crop


def test_people_are_held_out_whole() -> None:
    names = np.array([f"Person_{n}_{k:04}.jpg" for n in range(200) for k in range(3)])
    out = held_out(names).reshape(200, 3)
    assert (out.all(axis=1) | ~out.any(axis=1)).all()
    assert 0.04 < out.mean() < 0.18


def test_measure_gives_no_error_to_whoever_knows() -> None:
    faces = faces_with_a_dot()
    known = iter(zip(faces.points, faces.pose, strict=True))

    class Knows:
        """Answers the truth, moved by a hundredth of the eye distance."""

        def __call__(self, image: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, ...]:
            points, pose = next(known)
            eyes = np.linalg.norm(points[RIGHT_EYE_CORNERS[0]] - points[LEFT_EYE_CORNERS[0]])
            off, turned = np.array([0.01 * eyes, 0]), np.array([1, 2, 3])
            return (points + off)[None], np.array([0.9]), (pose + turned)[None]

    errors, presence, pose = measure(Knows(), faces, 1000)  # type: ignore[arg-type]
    assert errors == pytest.approx(1.0)
    assert presence == pytest.approx(0.9)
    assert pose.mean(axis=0) == pytest.approx([1, 2, 3])
