"""Results of editing: the edited photo, the record of each face, and the error of a refused edit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mien.editing.photo import Photo
from mien.errors import MienError
from mien.io import images
from mien.types import Box, Reading

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

MAX_YAW: Final = 35.0
"""Largest yaw in degrees: beyond it half of the face is hidden and would be invented."""
MIN_FACE: Final = 48.0
"""Smallest height of a face's box, pixels."""
MAX_JITTER: Final = 0.035
"""Largest spread of the landmarks over the eight crops of a face, in eye distances. Our choice: of 261 faces (the
example photos, five press photographs, the London set and scenes composed of it) it is 0.015 in the median and at most
0.032. Of 36 of them with the mouth, the eyes or one half covered (108 pictures) it is above the limit in 64; comparing
the mean of the odd crops with that of the even ones, within 0.02, found 26 of these and refused one good face."""
MAX_CUT: Final = 0.15
"""Largest distance of the jaw's points outside the photo, in eye distances. They err by about 0.1, and towards the rim
of a photo an edit fades. Of 80 tight crops of frontal press photographs (muxspace) 61 were refused with 0. Our
choice."""
MIN_SHARE: Final = 0.2
"""Least share of the requested change that is drawn when the fold guard weakens it."""


class EditRefused(MienError):
    """The edit would look implausible or cannot be done; the message says why, and whether --force overrides it."""


@dataclass(frozen=True, slots=True)
class FaceEdit:
    """What was done to one face.

    Attributes:
        face: its number in the photo, from 0, largest first.
        box: of the face.
        asked: requested strength by expression, and value by facial action.
        intensity: requested intensity, 0 to 1.25.
        applied: the intensity applied: less than `intensity` if the fold guard weakened the edit.
        folding: smallest Jacobian determinant of the map; it is at least 0.15, and 1 where nothing moves.
        gap_before, gap_after: mean distance of the inner lips, in eye distances.
        gaze: how far the eyes were turned, (across, up), in units of 15 degrees.
        flags: notes, such as quality problems that `force` overrode.
        before, after: the recogniser's reading of the face before and after; None without a recogniser.
    """

    face: int
    box: Box
    asked: dict[str, float]
    intensity: float
    applied: float
    folding: float
    gap_before: float
    gap_after: float
    gaze: tuple[float, float] = (0.0, 0.0)
    flags: tuple[str, ...] = ()
    before: Reading | None = None
    after: Reading | None = None


@dataclass(frozen=True)
class Edit:
    """An edited photo: `photo` with everything its file held, `original` as read, and the record of each face."""

    photo: Photo
    original: Photo
    faces: tuple[FaceEdit, ...]
    target: str

    @property
    def image(self) -> images.Rgb:
        """The edited picture, RGB uint8."""
        return self.photo.rgb

    @property
    def applied(self) -> float:
        """The intensity applied to the first edited face."""
        return self.faces[0].applied

    @property
    def flags(self) -> tuple[str, ...]:
        """Notes on all faces, each once."""
        return tuple(dict.fromkeys(flag for face in self.faces for flag in face.flags))

    @property
    def before(self) -> Reading | None:
        """The first edited face's reading before the edit."""
        return self.faces[0].before

    @property
    def after(self) -> Reading | None:
        """The first edited face's reading after the edit."""
        return self.faces[0].after


@dataclass(frozen=True)
class Located:
    """A located face, ready to be edited.

    Attributes:
        box: of the face. points: landmarks [P, 2] in pixels, with refined lips (`mien.editing.lip_contour`).
            network_points: [P, 2] as the landmark network gave them. The expression is read from these, as the reader
            was fitted on them. yaw: of the head, in degrees. jitter: uncertainty of the points: the root mean square
            distance of the eight estimates of a point from their mean, averaged over the points, in eye distances.
            reading: the recogniser's, or None without one.
    """

    box: Box
    points: Array
    network_points: Array
    yaw: float
    jitter: float
    reading: Reading | None
