"""The pipeline from a picture to its faces: read, detect, find landmarks, align, recognise; without torch.

    >>> import mien
    >>> pipeline = mien.load()                       # doctest: +SKIP
    >>> pipeline("photo.jpg").faces[0].expression    # doctest: +SKIP
    'happiness'

A single picture that cannot be analysed raises a `MienError`; among several it becomes an `Analysis` with `error` set,
and the others are analysed. Crops of several pictures are recognised together, with the same result as one by one.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, NamedTuple, TypeAlias, TypeVar, cast, overload

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import ConfigError, ImageError, MienError, NoFace, loading, shortened
from mien.faces import align
from mien.faces.detector_network import UNSURE
from mien.io import images
from mien.labels import EXPRESSIONS
from mien.types import Analyses, Analysis, Box, Detection, Face, Landmarks, NeutralFace, Pose, Reading
from mien.urls import without_secrets

if TYPE_CHECKING:
    from mien.faces.action_reader import ActionReader
    from mien.faces.baseline import Baselines, Given
    from mien.faces.detect import Detector
    from mien.faces.landmarker import Landmarker
    from mien.faces.operating_point import Prior
    from mien.faces.recognise import Recogniser
    from mien.faces.visibility import Visibility

Picture: TypeAlias = "images.Source | images.Pixels"
"""A path, a file's bytes, an open binary file, or pixels: an RGB array [height, width, 3], a Pillow picture, a torch
tensor, or anything else that `mien.io.images.check` accepts."""

OnNoFace = Literal["row", "skip", "error"]

Comparable = TypeVar("Comparable", bound=Analysis)

AHEAD: Final = 32
"""Largest number of pictures read, and of crops gathered, before the crops are recognised together; it limits the
memory of a stream."""

PRESENCE: Final = 0.5
"""A detection is dropped if the landmark network's estimate that it is a face is lower."""

UNSURE_ODDS: Final = 199.0
"""Factor by which the odds of presence must be higher for an unsure detection: .995 instead of .5. Of the right answers
of our detector on photographs and composites, upright and turned, at down to a quarter of the size, none was lost, on
badly spoilt scenes 7 of 100; of 32 false alarms on 112 megapixels 29 were."""

SOFT: Final = 100.0
"""Variance of the Laplacian at which a crop counts as half sharp."""

DOUBTFUL: Final = 0.4
"""A reading is marked uncertain if the quality of the face's picture is lower: it is then unreliable. Chosen so that
fewer than 5 % of clear web faces of 48 px, the worst that are still read well, are marked."""


class Quality(NamedTuple):
    """How reliable the picture of a face is: `value` in [0, 1], and in words what lowers it most."""

    value: float
    weakest: str


MeasuredFace = tuple[Detection, Landmarks, Pose, Quality, NDArray[np.uint8]]
"""A located face before recognition, with its quality and aligned crop."""


class ColourOrderWarning(UserWarning):
    """An array appears to be BGR instead of RGB."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """One picture before recognition: its faces without readings, and a crop for each."""

    source: str
    width: int = 0
    height: int = 0
    detections: tuple[Detection, ...] = ()
    landmarks: tuple[Landmarks, ...] = ()
    poses: tuple[Pose, ...] = ()
    qualities: tuple[Quality, ...] = ()
    crops: tuple[NDArray[np.uint8], ...] = ()
    error: str | None = None
    person: str | None = None


class Pipeline:
    """Detector, landmark network, recogniser and action reader, run in this order. Make one with `mien.load()`.

    A pipeline is thread-safe if its detector is, and immutable.
    """

    def __init__(
        self,
        detector: Detector,
        landmarker: Landmarker,
        recogniser: Recogniser,
        *,
        presence: float = PRESENCE,
        on_no_face: OnNoFace = "row",
        embeddings: bool = False,
        max_pixels: int = images.MAX_PIXELS,
        visibility: Visibility | None = None,
        actions: ActionReader | None = None,
        baselines: Baselines | None = None,
    ) -> None:
        """Combine the given parts; see `load` for the meaning and defaults of the options.

        `visibility` measures how much of a face is visible; None opens the shipped weights. `actions` reads facial
        actions; None reads none. `baselines` are the neutral faces to compare with; None compares none.
        """
        if not 0 <= presence <= 1:
            raise ConfigError(f"presence is {presence}: it is a probability, pass 0 to 1")
        if on_no_face not in ("row", "skip", "error"):
            raise ConfigError(f"on_no_face is '{on_no_face}': pass 'row', 'skip' or 'error'")
        self.detector = detector
        self.landmarker = landmarker
        self.recogniser = recogniser
        self.visibility = visibility or _visibility()
        self.actions = actions
        self.baselines = baselines
        self.presence = presence
        self.on_no_face = on_no_face
        self.embeddings = embeddings
        self.max_pixels = max_pixels

    @property
    def labels(self) -> tuple[str, ...]:
        """The recogniser's labels, in the order of `probabilities`."""
        return getattr(self.recogniser, "labels", EXPRESSIONS)

    def __repr__(self) -> str:
        return f"Pipeline({type(self.detector).__name__}, labels {', '.join(self.labels)})"

    @overload
    def __call__(self, pictures: Picture) -> Analysis: ...  # type: ignore[overload-overlap]  # str is a Sequence too

    @overload
    def __call__(self, pictures: Sequence[Picture]) -> Analyses: ...

    def __call__(self, pictures: Picture | Sequence[Picture]) -> Analysis | Analyses:
        """Analyse one picture, or each of a list or tuple of pictures.

        Returns:
            For one picture its `Analysis` (`faces` is empty where there is none). For many a list of one `Analysis`
            each, in order, with `error` set where a picture could not be analysed; with `on_no_face="skip"` pictures
            without a face are left out.

        Raises:
            ImageError: a single picture cannot be read, or an array is not RGB uint8 [height, width, 3].
            NoFace: a single picture has no face and `on_no_face` is "error".
            MienError: a single picture has no baseline that can be used, see `baseline`.
        """
        if isinstance(pictures, list | tuple):
            return Analyses(self.stream(pictures))
        if isinstance(pictures, Iterable) and not images.is_picture(pictures):
            raise ImageError(
                f"<{type(pictures).__name__}> of pictures: pass list(...) of it, or iterate over "
                "pipeline.stream(...)"
            )
        seen = self._see(pictures)  # type: ignore[arg-type]
        return self.compared(self._read([seen])[0], seen.person)

    def stream(self, pictures: Iterable[Picture], ahead: int = AHEAD) -> Iterator[Analysis]:
        """Analyse any number of pictures in constant memory, in order; errors become analyses with `error` set.

        Args:
            pictures: consumed lazily, so it may be endless.
            ahead: number of pictures read before the first is returned; 1 returns each at once.
        """
        if ahead < 1:
            raise ConfigError(f"ahead is {ahead}: pass 1 or more")
        waiting: list[_Seen] = []
        for picture in pictures:
            try:
                waiting.append(self._see(picture))
            except MienError as problem:
                waiting.append(_Seen(name_of(picture), error=str(problem)))
            if len(waiting) >= ahead or sum(len(seen.crops) for seen in waiting) >= AHEAD:
                yield from self._settle(waiting)
                waiting = []
        yield from self._settle(waiting)

    def _settle(self, waiting: list[_Seen]) -> Iterator[Analysis]:
        for analysis, seen in zip(self._read(waiting), waiting, strict=True):
            if not (analysis.faces or analysis.error or self.on_no_face != "skip"):
                continue
            try:
                yield self.compared(analysis, seen.person)
            except MienError as problem:
                error = f"{images.describe(analysis.source)}: not compared: {problem}"
                yield replace(analysis, error=error)

    def baseline(self, pictures: Picture | Sequence[Picture], name: str = "") -> NeutralFace:
        """The neutral face of one person from one or more pictures of it, their readings averaged.

        Compare with it by `analysis.relative_to(baseline)`.

        Args:
            pictures: each shows one face.
            name: how it is called; that of the pictures unless told.

        Raises:
            ImageError: a picture cannot be read.
            NoFace: a picture has no face.
            ConfigError: a picture has several faces, or there is no picture.
        """
        listed = list(pictures) if isinstance(pictures, list | tuple) else [cast("Picture", pictures)]
        if not listed:
            raise ConfigError("a baseline of no pictures: pass one of the person's neutral face")
        seen = [self._neutral(picture) for picture in listed]
        if not name:
            name = Path(seen[0].source).name + (f" and {len(seen) - 1} more" if len(seen) > 1 else "")
        readings = self._readings([one.crops[0] for one in seen], [one.landmarks[0] for one in seen])
        return NeutralFace.of(readings, name)

    def _neutral(self, picture: Picture) -> _Seen:
        """A baseline's picture, which shows one face."""
        seen = self._see(picture)
        if len(seen.crops) == 1:
            return seen
        shown = images.describe(seen.source)
        if not seen.crops:
            raise NoFace(f"{shown}: no face found: a baseline needs a picture of the person's neutral face")
        raise ConfigError(
            f"{shown}: {len(seen.crops)} faces found: a baseline needs a picture of one person alone, so cut it to "
            "that face"
        )

    def compared(self, analysis: Comparable, person: str | None = "") -> Comparable:
        """An analysis with the changes from this pipeline's baseline, if it has one; see `Baselines.of`."""
        if self.baselines is None or not analysis.faces:
            return analysis
        baseline = self.baselines.of(person, self)
        return analysis if baseline is None else analysis.relative_to(baseline)

    def _see(self, picture: Picture) -> _Seen:
        """Run every step before the recogniser."""
        source = name_of(picture)
        given = isinstance(picture, np.ndarray)
        rgb = (
            images.check(picture, self.max_pixels)
            if images.is_pixels(picture)
            else images.read(picture, max_pixels=self.max_pixels)
        )
        height, width = rgb.shape[:2]
        faces = self.find(rgb)
        if not faces and self.on_no_face == "error":
            raise NoFace(
                f"{images.describe(source)}: no face found: try another detector, tiled=True or a smaller min_face"
            )
        if given and faces:
            _warn_if_bgr(rgb, faces[0][0])
        detections, landmarks, poses, qualities, crops = zip(*faces, strict=True) if faces else ((),) * 5
        person = None if self.baselines is None else self.baselines.pictures.person_of(picture)
        return _Seen(source, width, height, detections, landmarks, poses, qualities, crops, person=person)

    def find(self, rgb: images.Rgb) -> list[MeasuredFace]:
        """Every face of a picture, largest first, which is also the order of their numbers."""
        found = sorted(self.detector(rgb), key=lambda detection: -detection.box.area)
        return self.locate(rgb, found) if found else []

    def read(self, located: Sequence[MeasuredFace]) -> list[Reading]:
        """The reading of each of n located faces, with their actions."""
        return self._readings([face[4] for face in located], [face[1] for face in located])

    def _readings(self, crops: Sequence[NDArray[np.uint8]], landmarks: Sequence[Landmarks]) -> list[Reading]:
        if not crops:
            return []
        stacked = np.stack(crops)
        readings = self.recogniser(stacked, embeddings=self.embeddings)
        if self.actions is None:
            return readings
        points = np.array([face.points for face in landmarks])
        return [
            replace(reading, **moved._asdict())
            for reading, moved in zip(readings, self.actions.named(stacked, points), strict=True)
        ]

    def locate(self, rgb: images.Rgb, found: Sequence[Detection]) -> list[MeasuredFace]:
        """Landmarks, pose, quality and crop of n detections, without those that are not faces; see `measure`."""
        boxes = np.array([detection.box.corners for detection in found], dtype=np.float64)
        rolls = [detection.roll or 0.0 for detection in found]
        looked = self.landmarker(rgb, boxes, rolls) if any(rolls) else self.landmarker(rgb, boxes)
        return self.measure(rgb, found, *looked)

    def measure(
        self,
        rgb: images.Rgb,
        found: Sequence[Detection],
        points: NDArray[np.floating[Any]],
        presences: NDArray[np.floating[Any]],
        poses: NDArray[np.floating[Any]],
    ) -> list[MeasuredFace]:
        """Align n detections with points [n, P, 2], presences [n] and poses [n, 3], and measure their quality.

        Detections with too low a presence, or with points that do not form a face, are left out.
        """
        kept, sides, crops = [], [], []
        needed = [needed_presence(detection.score, self.presence) for detection in found]
        for number in np.flatnonzero(np.asarray(presences) >= np.array(needed)).tolist():
            try:
                matrix = align.face_matrix(points[number])
            except align.DegenerateFace:  # the points do not form a face: the presence score was wrong
                continue
            kept.append(number)
            sides.append(1 / align.scale_of(matrix))
            crops.append(align.face_crop(rgb, matrix, self.recogniser.size))
        faces = []
        seen = self.visibility(np.stack(crops)) if crops else ()
        for number, side, crop, share in zip(kept, sides, crops, seen, strict=True):
            presence = float(presences[number])
            yaw, pitch, roll = (float(angle) for angle in poses[number])
            visible = float(share) * whole(found[number].box, rgb.shape, roll)
            faces.append(
                (
                    found[number],
                    Landmarks(tuple((x, y) for x, y in points[number].tolist()), presence),
                    Pose(yaw, pitch, roll),
                    quality(crop, side, yaw, pitch, presence, visible),
                    crop,
                )
            )
        return faces

    def _read(self, waiting: list[_Seen]) -> list[Analysis]:
        """Recognise the crops of several pictures together and assign the readings to their pictures."""
        crops = [crop for seen in waiting for crop in seen.crops]
        readings = iter(self._readings(crops, [one for seen in waiting for one in seen.landmarks]))
        return [
            Analysis(
                seen.source,
                seen.width,
                seen.height,
                tuple(
                    Face(detection, landmarks, pose, doubted(next(readings), quality), quality.value)
                    for detection, landmarks, pose, quality in zip(
                        seen.detections, seen.landmarks, seen.poses, seen.qualities, strict=True
                    )
                ),
                error=seen.error,
                model=self.recogniser.name,
            )
            for seen in waiting
        ]


def load(
    *,
    detector: str | Detector = "auto",
    detector_model: Path | str | None = None,
    min_face: float | None = None,
    min_confidence: float | None = None,
    tiled: bool = False,
    weights: Path | str | None = None,
    prior: Prior | None = None,
    adapt: Path | str | None = None,
    baseline: Given | None = None,
    presence: float = PRESENCE,
    on_no_face: OnNoFace = "row",
    embeddings: bool = False,
    actions: bool = True,
    threads: int | None = None,
    max_pixels: int = images.MAX_PIXELS,
) -> Pipeline:
    """Load the shipped weights and return a `Pipeline`.

    Args:
        detector: a name in `mien.faces.detect`, or any object that follows its `Detector` protocol.
        detector_model: the model file of a detector that needs one (YuNet).
        min_face: smallest height of a face's box, pixels; None is the detector's default.
        min_confidence: lowest detector score kept, in [0, 1]; None is the detector's default.
        tiled: search a second time in overlapping tiles, for small faces in large pictures.
        weights: another recogniser: an .onnx file with its card beside it, or a folder that `mien release` wrote; None
            is the shipped one.
        prior: the label shares to expect: "trained", "uniform", or a share for each label; labels that are not named
            share the rest. None is what the weights' card recommends; see `mien.faces.operating_point`.
        adapt: a file of `mien adapt`: a correction fitted on your own labelled pictures.
        baseline: one or more pictures of a person's neutral face, or a table of them for several people: each face then
            has its `change` from it; see `mien.faces.baseline`.
        presence: lowest face-presence score of the landmark network kept, in [0, 1].
        on_no_face: "row" gives an `Analysis` without faces, "skip" leaves it out of lists and streams, "error" makes it
            an error.
        embeddings: also return the recogniser's feature vectors.
        actions: also return the 52 facial actions, see `mien.actions`.
        threads: threads of the networks; None uses all processors of the affinity mask.
        max_pixels: larger pictures are refused before they are decoded.

    Raises:
        WeightsError: weights are missing, damaged or do not match their card.
        ConfigError: an option is wrong.
        NoFace, ImageError: a picture of the baseline has no face, or cannot be read.
        LoadError: a library cannot be imported, or there is not enough memory.
    """
    from mien.faces import detect

    baselines = None
    if baseline is not None:
        from mien.faces.baseline import Baselines, NeutralPictures

        baselines = Baselines(NeutralPictures.read(baseline))

    def make_detector() -> Detector:
        if not isinstance(detector, str):
            return detector
        options = {"model_path": detector_model, "minimum": min_face, "confidence": min_confidence}
        given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
        return detect.build(detector, **given, **({"tiled": True} if tiled else {}))

    def make_landmarker() -> Landmarker:
        from mien.faces.landmarker import Landmarker

        return Landmarker.load(threads=threads)

    def make_recogniser() -> Recogniser:
        from mien.faces.recognise import OnnxRecogniser

        return OnnxRecogniser.load(weights, threads=threads, prior=prior, adapt=adapt)

    def make_actions() -> ActionReader | None:
        if not actions:
            return None
        from mien.faces.action_reader import ActionReader

        return ActionReader.load(threads=threads)

    recogniser, landmarker = _Opening(make_recogniser), _Opening(make_landmarker)
    visibility, action_reader = _Opening(_visibility), _Opening(make_actions)
    try:
        with loading("mien"):
            found, opened, reader = make_detector(), landmarker.result(), recogniser.result()
        seen, acting = visibility.result(), action_reader.result()
    except BaseException:
        for part in (recogniser, landmarker, visibility, action_reader):
            part.wait()  # a process that ends while a thread of it opens a network is aborted
        raise
    pipeline = Pipeline(
        found,
        opened,
        reader,
        presence=presence,
        on_no_face=on_no_face,
        embeddings=embeddings,
        max_pixels=max_pixels,
        visibility=seen,
        actions=acting,
        baselines=baselines,
    )
    if baselines is not None and baselines.pictures.persons is None:
        baselines.of("", pipeline)  # a picture that cannot be used is an error now
    return pipeline


def _visibility() -> Visibility:
    from mien.faces.visibility import Visibility

    return Visibility.load()


Part = TypeVar("Part")


class _Opening(Thread, Generic[Part]):
    """Opens one part in a thread while others are opened, since most of the start-up time is spent opening networks.

    Not a ThreadPoolExecutor: its import adds 6 ms to every start, an error in one part would wait for the others, and
    failing to start a thread must not be an error.
    """

    def __init__(self, make: Callable[[], Part]) -> None:
        super().__init__(daemon=True)
        self._make = make
        self._part: list[Part] = []
        self._failure: BaseException | None = None
        try:
            self.start()
        except RuntimeError:  # the limit of threads is reached, or there is no memory for one
            self.run()

    def run(self) -> None:
        """Open the part."""
        try:
            self._part.append(self._make())
        except BaseException as problem:  # it is raised again in the thread that waits
            self._failure = problem

    def wait(self) -> None:
        """Wait until the part is open, or has failed to open."""
        if self.ident is not None:
            self.join()

    def result(self) -> Part:
        """Wait for the part and return it; errors raised while opening it are raised here."""
        self.wait()
        if self._failure is not None:
            raise self._failure
        return self._part[0]


def name_of(picture: Picture) -> str:
    """The name of a picture in an analysis: the path as given, the name of an open file, "bytes" or "array". A text
    that is too long for a path is shortened to its beginning and end.

    Bytes of a file name that are not UTF-8 are escaped, so that every table can hold the name; secrets in a URL are
    left out.
    """
    if images.is_pixels(picture):
        return getattr(picture, "filename", "") or "array"
    if isinstance(picture, bytes | bytearray | memoryview):
        return "bytes"
    name = os.fspath(picture) if isinstance(picture, str | os.PathLike) else getattr(picture, "name", "file")
    text = os.fsdecode(name) if isinstance(name, str | bytes) else str(name)
    text = without_secrets(shortened(text, word=4096, whole=1 << 20))
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def quality(
    crop: NDArray[np.uint8], side: float, yaw: float, pitch: float, presence: float, visible: float = 1.0
) -> Quality:
    """How reliable the picture of a face is: the visible share times a geometric mean of four factors.

    - visible: how much of the face is visible, by `mien.faces.visibility`;
    - size: `side` of the aligned square in the picture's pixels, over the side of the crop, at most 1;
    - sharpness: v / (v + 100), v the variance of the crop's Laplacian; 100 is a usual limit of "blurred";
    - frontality: cos(yaw) cos(pitch), 0 beyond a right angle;
    - presence: the landmark network's estimate that this is a face.

    Our choice: each of the four factors lowers the quality a little; with nothing visible it is 0.

    Args:
        crop: uint8 [s, s] luma, aligned.
        side: pixels.
        yaw: degrees; `pitch` likewise.
        presence: in [0, 1]; `visible` likewise.
    """
    size = min(1.0, side / crop.shape[0])
    variance = float(cv2.Laplacian(crop, cv2.CV_32F).var())
    front = float(max(0.0, np.cos(np.radians(yaw))) * max(0.0, np.cos(np.radians(pitch))))
    shares = {
        "small": size,
        "blurred": variance / (variance + SOFT),
        "turned": front,
        "hardly a face": presence,
    }
    factors = {name: min(1.0, max(0.0, share)) ** 0.25 for name, share in shares.items()}
    factors["covered"] = visible
    weakest = min(factors, key=factors.__getitem__)
    return Quality(math.prod(factors.values()), weakest)


def needed_presence(score: float, presence: float) -> float:
    """The lowest presence in [0, 1] at which a detection of this `score` is kept: `presence`, or more if it is unsure.

    Our choice: a face that the detector hardly sees is believed only if the landmark network is sure.
    """
    if score >= UNSURE:
        return presence
    return UNSURE_ODDS * presence / (1 + (UNSURE_ODDS - 1) * presence)


def whole(box: Box, shape: tuple[int, ...], roll: float) -> float:
    """1 for a face of usual proportions, falling to 0 for one that is cut off by the picture's border.

    The landmark network fits a whole face, mouth included, into the visible part, so its crop looks valid. But no face
    is wider than high: of about 800 faces in three sets fewer than a fiftieth were over 0.99 times as wide as high, of
    266 cut below the nose most were over 1.1. Our choice: only boxes within 2 % of the border, from 1.05 to 1.1.
    """
    height, width = shape[:2]
    if min(box.x, box.y, width - box.right, height - box.bottom) > 0.02 * max(box.width, box.height):
        return 1.0
    lying = 45 < abs(roll) % 180 < 135
    aspect = box.height / box.width if lying else box.width / box.height
    return min(1.0, max(0.0, (1.1 - aspect) / 0.05))


def doubted(reading: Reading, quality: Quality) -> Reading:
    """Mark a reading as uncertain if the quality of the face's picture is below `DOUBTFUL`."""
    if quality.value >= DOUBTFUL:
        return reading
    return replace(reading, uncertain=True, doubts=(quality.weakest, *reading.doubts))


def _warn_if_bgr(rgb: images.Rgb, detection: Detection) -> None:
    """Warn if a face is more blue than red: skin of every tone reflects more red in ordinary light, so it is probably
    BGR."""
    box = detection.box
    left, right = max(0, int(box.x + box.width / 4)), int(box.x + box.width * 3 / 4)
    top, bottom = max(0, int(box.y + box.height / 4)), int(box.y + box.height * 3 / 4)
    red, _, blue = rgb[top : bottom + 1, left : right + 1].reshape(-1, 3).mean(axis=0)
    if blue > 1.15 * red + 2:
        warnings.warn(
            "the face in this array is more blue than red: is it BGR? mien takes RGB, turn it with array[..., ::-1]",
            ColourOrderWarning,
            stacklevel=4,
        )
