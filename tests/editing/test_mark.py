"""The invisible mark: what it survives, what it leaves alone, and that nothing is found where there is none."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from io import BytesIO

import cv2
import numpy as np
import pytest
from PIL import Image

from mien.editing import mark
from mien.editing.mark import Mark
from mien.editing.photo import Photo
from mien.io.images import Rgb


def scene(height: int, width: int, seed: int = 0) -> Rgb:
    """A photo-like picture: noise whose amplitude falls with frequency, a smooth sky above it, an edge between."""
    random = np.random.default_rng(seed)
    down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    spectrum = random.normal(size=(3, height, width // 2 + 1)) + 1j * random.normal(
        size=(3, height, width // 2 + 1)
    )
    spectrum /= np.maximum(np.hypot(down, across), 2 / max(height, width)) ** 1.2
    noise = np.fft.irfft2(spectrum, (height, width)).transpose(1, 2, 0)
    ground = 110 + 45 * noise / noise.std()
    sky = np.linspace(190, 220, height)[:, None, None] + [-20, 0, 20]
    return np.clip(np.where(np.arange(height)[:, None, None] < height // 4, sky, ground), 0, 255).astype(
        np.uint8
    )


def marked(rgb: Rgb, said: Mark | None = None) -> Rgb:
    photo = mark.add(Photo(rgb), said or Mark())
    assert photo is not None
    return photo.rgb


def jpeg(rgb: Rgb, quality: int) -> Rgb:
    stream = BytesIO()
    Image.fromarray(rgb).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream).convert("RGB"))


def resized(rgb: Rgb, factor: float) -> Rgb:
    size = round(rgb.shape[1] * factor), round(rgb.shape[0] * factor)
    return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BICUBIC))


def without(rgb: Rgb, side: str, share: float = 0.1) -> Rgb:
    """The picture without a share of one side."""
    rows, columns = (round(share * length) for length in rgb.shape[:2])
    return {
        "left": rgb[:, columns:],
        "top": rgb[rows:],
        "right": rgb[:, :-columns],
        "bottom": rgb[:-rows],
    }[side]


CHANGES: dict[str, Callable[[Rgb], Rgb]] = {
    "none": lambda rgb: rgb,
    "jpeg 70": lambda rgb: jpeg(rgb, 70),
    "half": lambda rgb: resized(rgb, 0.5),
    "half, jpeg 85": lambda rgb: jpeg(resized(rgb, 0.5), 85),
    "larger, jpeg 85": lambda rgb: jpeg(resized(rgb, 1.5), 85),
    "left, jpeg 85": lambda rgb: jpeg(without(rgb, "left"), 85),
    "top, jpeg 85": lambda rgb: jpeg(without(rgb, "top"), 85),
    "right, jpeg 85": lambda rgb: jpeg(without(rgb, "right"), 85),
    "bottom, jpeg 85": lambda rgb: jpeg(without(rgb, "bottom"), 85),
    "grey": lambda rgb: np.repeat(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2),
    "duller": lambda rgb: (rgb * 0.8 + 20).astype(np.uint8),
}


@pytest.mark.parametrize("size", [(300, 400), (700, 1000)])
@pytest.mark.parametrize("change", CHANGES)
def test_the_mark_is_found_after(change: str, size: tuple[int, int]) -> None:
    found = mark.find(np.ascontiguousarray(CHANGES[change](marked(scene(*size)))))
    assert found.mark == Mark()
    assert found.score >= mark.ACCEPT


@pytest.mark.parametrize(
    "said", [Mark(edited=False), Mark(kind="sheet"), Mark(generation=15), Mark(version=9)]
)
def test_every_field_is_read_back(said: Mark) -> None:
    assert mark.find(marked(scene(300, 300), said)).mark == said


def test_a_picture_without_mark_has_none() -> None:
    for seed in range(3):
        found = mark.find(scene(300, 400, seed))
        assert found.mark is None
        assert found.score < mark.ACCEPT


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_flat_picture_has_no_mark_and_can_get_one(value: int) -> None:
    flat = np.full((300, 300, 3), value, np.uint8)
    assert mark.find(flat).mark is None
    assert np.abs(marked(flat).astype(int) - flat).max() <= 3, "faint"


@pytest.mark.parametrize("size", [(256, 256), (300, 400), (700, 1000)])
def test_the_mark_is_faint(size: tuple[int, int]) -> None:
    plain = scene(*size)
    change = marked(plain).astype(float) - plain
    assert 10 * np.log10(255**2 / (change**2).mean()) >= 42
    assert np.abs(change).max() <= 8


def test_texture_has_more_of_it_than_smooth_areas_up_to_their_edge() -> None:
    random = np.random.default_rng(0)
    texture = cv2.GaussianBlur(random.normal(0, 150, (400, 400)), (0, 0), 1.5) + 128
    texture[:, 200:] = 128
    plain = np.repeat(np.clip(texture, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    change = np.abs(marked(plain).astype(float) - plain).mean(axis=(0, 2))
    assert change[210:].mean() < 0.75 * change[30:170].mean()
    assert change[202:215].mean() < 1.2 * change[220:].mean()


def test_a_small_picture_gets_none() -> None:
    assert mark.add(Photo(scene(239, 239)), Mark()) is None
    assert mark.add(Photo(scene(240, 240)), Mark()) is not None


def test_grey_stays_grey_and_16_bits_keep_their_depth() -> None:
    grey = np.repeat(scene(300, 300)[..., :1], 3, axis=2)
    photo = mark.add(Photo(grey, grey=True), Mark())
    assert photo is not None
    assert (photo.colour == photo.colour[..., :1]).all()
    deep = scene(300, 300).astype(np.uint16) * 257 + np.uint16(5) - 5
    wide = mark.add(Photo(deep), Mark())
    assert wide is not None
    assert wide.colour.dtype == np.uint16
    assert len(np.unique(wide.colour % 257)) > 50, "finer than 8 bits"
    assert mark.find(wide.rgb).mark == Mark()


def test_pixels_under_full_transparency_do_not_change() -> None:
    plain = scene(300, 400)
    alpha = np.full(plain.shape[:2], 255, np.uint8)
    alpha[:, :100] = 0
    photo = mark.add(Photo(plain, alpha), Mark())
    assert photo is not None
    np.testing.assert_array_equal(photo.colour[:, :100], plain[:, :100])
    np.testing.assert_array_equal(photo.alpha, alpha)
    assert mark.find_uncropped(photo).mark == Mark()


def test_marking_again_replaces_the_first_mark() -> None:
    first = marked(scene(300, 400))
    assert mark.find(marked(first, Mark(generation=2))).mark == Mark(generation=2)


def test_the_carriers_do_not_change() -> None:
    """Marks of earlier versions must be found: these numbers are part of version 1 of the mark."""
    carriers = mark._carriers()
    parts = mark._signs(Mark()).astype("i1"), carriers.rows.astype("<i2"), carriers.columns.astype("<i2")
    digest = hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()
    assert digest.startswith("f6e9caf9ae33a9e8")


def test_the_code_corrects_31_wrong_signs_in_a_byte() -> None:
    words = mark._words()
    assert sorted({int(product) for product in (words @ words[77]).tolist()}) == [-128, 0, 128]
    received = words[77].copy()
    received[:31] *= -1
    assert int((words @ received).argmax()) == 77


def test_a_mark_says_what_it_means() -> None:
    assert Mark().describe() == "version 1, photo edited by mien"
    assert Mark(generation=3, kind="sheet").describe() == "version 1, sheet edited 3 times by mien"
    assert Mark(edited=False).describe() == "version 1, photo by mien, not edited"
