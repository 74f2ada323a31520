"""An invisible mark in the pixels of an edited picture: 64 bits that stay when the metadata are stripped.

The mark is a spread-spectrum watermark (Cox, Kilian, Leighton and Shamoon, 1997) in the luma of the whole picture:

- *Lattice.* The picture is resized to a fixed area (256 x 256, from 640 x 640 pixels on 512 x 512), so that resizing
  changes nothing. On this lattice a tile of 128 x 128 repeats. A crop shifts the tile and changes the scale of the
  lattice; `find` searches both.
- *Carriers.* The tile is a sum of plane waves with periods of 5 to 17 lattice pixels. 1,024 amplitudes have the signs
  of the payload; the other signs are fixed and serve to find shift and scale, and to weigh the periods.
- *Error correction.* Each of the 8 bytes of a payload is a word of the first-order Reed-Muller code RM(1, 7), 128
  signs. The payload is the most likely one of the 4,096 that have this product's number and a right checksum.
- *Masking.* The amplitude follows the least local contrast nearby: it is largest inside texture, and small in skies and
  beside edges. Where the picture itself contradicts a carrier, that carrier is stronger (after improved spread
  spectrum, Malvar and Florencio, 2003).

Bands, amplitudes and limits are our choice, set on the pictures of `benchmarks/mark.py`. The carriers are public, so
that anyone can check a picture; so anyone can also remove or forge the mark. It is a hint, not proof.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from mien.editing.photo import Photo
    from mien.io.images import Rgb

    Array = NDArray[np.float32]

VERSION: Final = 1
"""Version of the mark: of carriers, code and payload."""
LEAST: Final = 240
"""A picture of fewer than `LEAST` x `LEAST` pixels gets no mark: it would have to be visible."""
ACCEPT: Final = 7.5
"""Least score of a mark. That of an unmarked picture is the largest of 4,096 nearly standard normal values for each of
at most 40 alignments: by that, one picture in 10^8 reaches it. Measured (`docs/editing.md`): at most 2 in 10^7."""
KINDS: Final = ("photo", "sheet", "animation", "video")
_PRODUCT: Final = 0x6D69656  # "mie", and the first half of "n"
SIDES: Final = (256, 512)
"""Sides of a square with the area of the lattice: for small pictures, and from `_LARGE` x `_LARGE` pixels."""
_LARGE: Final = 640
_TILE: Final = 128
_BAND: Final = (7.5, 24.5)
_CODED: Final = 1024
_RINGS: Final = 13
_ALIGNED: Final = np.ones(1)
SCALES: Final = np.exp(sorted(0.006 * np.arange(-90, 20), key=abs))
"""Scales that are searched, in steps of 0.6 %: a crop to 0.6 of the sides, or a border of an eighth."""
_TRIED: Final = 24
_SURE: Final = 8.0
"""A score of the known carriers at which the payload is read at once, without trying the other scales."""
_CAP: Final = 1.9
"""Largest root mean square of the mark, in levels: a PSNR of 42.5 dB before rounding."""
_PEAK: Final = 8.0


@dataclass(frozen=True)
class Mark:
    """What a mark says: 28 bits of the product's number, 4 of `version`, 1 of `edited`, 3 of `kind`, 4 of `generation`
    and 24 of a checksum.

    Attributes:
        edited: the picture was edited.
        kind: one of `KINDS`, or "unknown" for the number of a later version.
        generation: how many edits are marked in it, 1 to 15, as far as the input's mark was still there.
        version: of the mark, 0 to 15.
    """

    edited: bool = True
    kind: str = "photo"
    generation: int = 1
    version: int = VERSION

    def describe(self) -> str:
        """In words."""
        times = "" if self.generation == 1 else f" {self.generation} times"
        what = f"{self.kind} edited{times} by mien" if self.edited else f"{self.kind} by mien, not edited"
        return f"version {self.version}, {what}"


@dataclass(frozen=True)
class FoundMark:
    """What `find` found.

    Attributes:
        mark: the mark, or None.
        score: correlation with the most likely payload, in standard deviations of that of an unmarked picture; a mark
            has at least `ACCEPT`.
    """

    mark: Mark | None
    score: float


def add(photo: Photo, mark: Mark) -> Photo | None:
    """The photo with a mark, or None if it has fewer than `LEAST` x `LEAST` pixels.

    Every channel of a pixel changes by the same amount, at most 8 levels of 256; the PSNR is at least 42 dB. Pixels
    under full transparency do not change.
    """
    height, width = photo.colour.shape[:2]
    if height * width < LEAST**2:
        return None
    spread = cv2.resize(_pattern(_grey(photo), mark), (width, height), interpolation=cv2.INTER_CUBIC)
    if photo.alpha is not None:
        spread[photo.alpha == 0] = 0
    levels = np.rint(spread.clip(-_PEAK, _PEAK) * photo.scale)
    deep = cv2.CV_8U if photo.scale == 1 else cv2.CV_16U
    return replace(photo, colour=cv2.add(photo.colour, cv2.merge([levels] * 3), dtype=deep))


def find(rgb: Rgb) -> FoundMark:
    """Look for a mark in a picture [h, w, 3], also after resizing and a crop to 0.6 of the sides."""
    grey = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)
    uncropped = _best(grey, _ALIGNED, refine=False)
    return uncropped if uncropped.mark else _best(grey, SCALES, refine=True)


def find_uncropped(photo: Photo) -> FoundMark:
    """Look for a mark in a picture that is not cropped; a twentieth of the work of `find`."""
    return _best(_grey(photo), _ALIGNED, refine=False)


def score_windows(rgb: Rgb, side: int, random: np.random.Generator, windows: int, scales: int) -> list[float]:
    """The largest score of several scales for each of several windows of the lattice, all drawn at random; to measure
    false alarms. A window has 0.7 to 1 of the sides, so it is what `find` would see of a crop."""
    level = _normalised(_lattice(np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8), side))[0]
    best = []
    for _ in range(windows):
        height, width = (round(random.uniform(0.7, 1) * length) for length in level.shape)
        top, left = (
            random.integers(0, 1 + all_ - part)
            for all_, part in zip(level.shape, (height, width), strict=True)
        )
        window = level[top : top + height, left : left + width]
        best.append(max(_read(*_aligned(window, scale)[1:])[1] for scale in random.choice(SCALES, scales)))
    return best


def _grey(photo: Photo) -> NDArray[np.uint8]:
    """The luma [h, w] as a viewer shows it: on white under alpha."""
    grey = cv2.cvtColor(photo.rgb, cv2.COLOR_RGB2GRAY)
    if photo.alpha is not None:
        share = photo.alpha / np.float32(255 * photo.scale)
        grey = np.rint(grey * share + 255 * (1 - share)).astype(np.uint8)
    return np.asarray(grey, np.uint8)


def _best(grey: NDArray[np.uint8], scales: NDArray[np.float64], refine: bool) -> FoundMark:
    """The mark with the largest score among the likely alignments."""
    best: tuple[Mark | None, float] = (None, 0.0)
    alignments = []
    for alignment in _alignments(grey, scales):
        alignments.append(alignment)
        if alignment[0] >= _SURE:
            found = _read(*alignment[1:3])
            if found[1] >= ACCEPT:
                return FoundMark(*found)
    alignments.sort(key=lambda alignment: -alignment[0])
    for _, coefficients, shift, _, _ in alignments[:_TRIED]:
        best = max(best, _read(coefficients, shift), key=lambda found: found[1])
        if best[1] >= ACCEPT:
            return FoundMark(*best)
    if refine:
        for _, _, _, level, scale in alignments[:4]:
            for step in (-0.003, -0.0015, 0.0015, 0.003):
                _, coefficients, shift = _aligned(level, scale * (1 + step))
                best = max(best, _read(coefficients, shift), key=lambda found: found[1])
    return FoundMark(best[0] if best[1] >= ACCEPT else None, best[1])


def _alignments(grey: NDArray[np.uint8], scales: NDArray[np.float64]) -> Iterator[tuple[Any, ...]]:
    """(sync score, coefficients, shift, normalised lattice, scale) of each scale and lattice."""
    levels = [_normalised(_lattice(grey, side))[0] for side in SIDES]
    for scale in scales:
        for level in levels:
            yield (*_aligned(level, scale), level, scale)


@dataclass(frozen=True)
class _Carriers:
    """The plane waves of the tile: `rows` and `columns` of their coefficients in a real 2-D Fourier transform, the
    `ring` of each of the 2 n amplitudes (real parts, then imaginary), the amplitudes that are `coded` and `known`, and
    the `signs` of the known ones."""

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    ring: NDArray[np.intp]
    coded: NDArray[np.intp]
    known: NDArray[np.intp]
    signs: Array


@cache
def _carriers() -> _Carriers:
    vertical = np.fft.fftfreq(_TILE, 1 / _TILE)[:, None]
    horizontal = np.arange(_TILE // 2 + 1)[None]
    radius = np.hypot(vertical, horizontal)
    half = (horizontal > 0) | (vertical > 0)  # the other half of the column 0 is its conjugate
    rows, columns = np.nonzero((radius >= _BAND[0]) & (radius <= _BAND[1]) & half)
    ring = ((radius[rows, columns] - _BAND[0]) / (_BAND[1] - _BAND[0]) * (_RINGS - 1)).round().astype(int)
    random = np.random.RandomState(64)  # NumPy keeps the stream of this generator the same in every version
    order = random.permutation(2 * len(rows))
    signs = random.choice([-1.0, 1.0], len(order) - _CODED).astype(np.float32)
    return _Carriers(rows, columns, np.tile(ring, 2), order[:_CODED], order[_CODED:], signs)


@cache
def _words() -> Array:
    """The 256 words of RM(1, 7) as signs [256, 128]: word b has the parity of b & p at p, flipped by the top bit."""
    byte, place = np.arange(256)[:, None], np.arange(128)[None]
    parity = np.unpackbits((byte & place).astype(np.uint8)[..., None], axis=-1).sum(axis=-1) + (byte >> 7)
    return np.asarray(1 - 2 * (parity % 2), np.float32)


@cache
def _payloads() -> NDArray[np.uint8]:
    """The bytes [4096, 8] of all payloads, by version, edited, kind and generation (4, 1, 3 and 4 bits)."""
    payloads = []
    for number in range(4096):
        head = (_PRODUCT << 12 | number).to_bytes(5, "big")
        payloads.append(head + zlib.crc32(head).to_bytes(4, "big")[1:])
    return np.frombuffer(b"".join(payloads), np.uint8).reshape(-1, 8)


def _signs(mark: Mark) -> Array:
    """The sign of each amplitude."""
    number = mark.version << 8 | mark.edited << 7 | KINDS.index(mark.kind) << 4 | mark.generation
    carriers = _carriers()
    signs = np.empty(len(carriers.ring), np.float32)
    signs[carriers.coded] = _words()[_payloads()[number]].reshape(-1)
    signs[carriers.known] = carriers.signs
    return signs


def _plane(coefficients: NDArray[np.complex64]) -> Array:
    """The tile that is a sum of the carriers."""
    carriers = _carriers()
    spectrum = np.zeros((_TILE, _TILE // 2 + 1), np.complex64)
    spectrum[carriers.rows, carriers.columns] = coefficients
    first = carriers.columns == 0
    spectrum[-carriers.rows[first], 0] = coefficients[first].conj()
    return np.fft.irfft2(spectrum, (_TILE, _TILE)).astype(np.float32)


def _complex(amplitudes: Array) -> NDArray[np.complex64]:
    real, imaginary = np.split(amplitudes, 2)
    return (real + 1j * imaginary).astype(np.complex64)


def _lattice(grey: NDArray[np.uint8], side: int) -> Array:
    """The picture with an area of `side` squared."""
    height, width = grey.shape
    scale = side / (height * width) ** 0.5
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(grey, size, interpolation=how), np.float32)


def _normalised(level: Array) -> tuple[Array, Array]:
    """The band of the carriers over its local deviation, so that edges do not outweigh the mark, and the deviation."""
    band = level - cv2.GaussianBlur(level, (0, 0), 4.0)
    deviation = np.sqrt(cv2.blur(band * band, (13, 13)).clip(0))  # rounding makes it negative
    return np.clip(band / (deviation + 1), -2.5, 2.5), deviation


def _folded(normalised: Array) -> NDArray[np.complex64]:
    """The coefficients of the carriers in the sum of all tiles."""
    height, width = normalised.shape
    tiles = np.zeros((-(-height // _TILE) * _TILE, -(-width // _TILE) * _TILE), np.float32)
    tiles[:height, :width] = normalised
    tile = tiles.reshape(-1, _TILE, tiles.shape[1] // _TILE, _TILE).sum(axis=(0, 2))
    carriers = _carriers()
    return np.fft.rfft2(tile)[carriers.rows, carriers.columns].astype(np.complex64)


def _aligned(level: Array, scale: float) -> tuple[float, NDArray[np.complex64], tuple[int, int]]:
    """Whitened coefficients at a scale of the lattice, the best shift, and its score by the known carriers."""
    height, width = level.shape
    if scale != 1:
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        level = np.asarray(cv2.resize(level, size, interpolation=cv2.INTER_LINEAR), np.float32)
    carriers = _carriers()
    found = _folded(level)
    ring = carriers.ring[: len(found)]
    mean = np.bincount(ring, np.abs(found)) / np.bincount(ring)
    found = found / (mean[ring] + 1e-6)
    found = found * np.minimum(1, 2 / np.maximum(np.abs(found), 1e-6))
    known = np.zeros(len(carriers.ring), np.float32)
    known[carriers.known] = carriers.signs
    likely = _plane((found * _complex(known).conj()).astype(np.complex64))
    at = int(likely.argmax())
    score = float(likely.flat[at] / (likely.std() + 1e-12))
    return score, found.astype(np.complex64), divmod(at, _TILE)


def _read(coefficients: NDArray[np.complex64], shift: tuple[int, int]) -> tuple[Mark, float]:
    """The most likely payload at a shift of the tile, and its score."""
    carriers = _carriers()
    phase = (carriers.rows * shift[0] + carriers.columns * shift[1]) % _TILE
    turned = coefficients * np.exp(2j * np.pi / _TILE * phase)
    amplitudes = np.concatenate([turned.real, turned.imag])
    # How much of each ring is left, by the known signs: JPEG takes the short periods first.
    ring = carriers.ring[carriers.known]
    kept = np.bincount(ring, amplitudes[carriers.known] * carriers.signs, _RINGS)
    smooth = np.convolve(kept, [1, 2, 1], "same") / np.convolve(
        np.bincount(ring, None, _RINGS), [1, 2, 1], "same"
    )
    soft = (amplitudes * smooth.clip(0.02)[carriers.ring])[carriers.coded].reshape(8, 128)
    scores = (soft @ _words().T)[np.arange(8), _payloads()].sum(axis=1)
    best = int(scores.argmax())
    kind = best >> 4 & 7
    mark = Mark(bool(best >> 7 & 1), KINDS[kind] if kind < len(KINDS) else "unknown", best & 15, best >> 8)
    return mark, float(scores[best] / (np.linalg.norm(soft) + 1e-12))


def _pattern(grey: NDArray[np.uint8], mark: Mark) -> Array:
    """What is added to the luma, in levels, on the lattice."""
    size = float(grey.size) ** 0.5
    level = _lattice(grey, SIDES[int(size >= _LARGE)])
    normalised, deviation = _normalised(level)
    # The least deviation nearby: none of an edge's contrast is used for the smooth area beside it.
    least = cv2.blur(cv2.erode(deviation, np.ones((13, 13), np.uint8)), (5, 5))
    mask = (0.57 if size < 400 else 0.32) * np.clip(0.55 * least**0.5, 1.8, 6)
    signs = _signs(mark)
    height, width = level.shape

    def tiled(amplitudes: Array) -> Array:
        tile = _plane(_complex(amplitudes))
        return np.tile(tile, (-(-height // _TILE), -(-width // _TILE)))[:height, :width]

    def amplitudes(of: Array) -> Array:
        folded = _folded(of)
        return np.concatenate([folded.real, folded.imag])

    unit = tiled(signs)
    strength = mask / unit.std()
    host = amplitudes(normalised)
    gain = float(((amplitudes(_normalised(level + strength * unit)[0]) - host) * signs).mean())
    against = np.clip(-host * signs / max(gain, 1e-6), 0, 3)
    pattern = strength * tiled(signs * (1 + 0.9 * against).astype(np.float32))
    pattern = np.clip(pattern, -2.5 * mask, 2.5 * mask)  # no single dots in smooth areas
    return np.asarray(pattern * min(1.0, _CAP / float(np.sqrt((pattern * pattern).mean()))), np.float32)
