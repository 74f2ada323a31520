"""Pictures in and out: one form for every file, whichever library decodes it, and one line for every bad one."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, features

from mien.errors import ImageError
from mien.io import images

Rgb = NDArray[np.uint8]


@pytest.fixture(scope="module")
def scene() -> Rgb:
    """A smooth colour picture, 48 x 32, without symmetry: every rotation and swap of channels shows."""
    y, x = np.mgrid[0:32, 0:48]
    return np.stack([5 * x, 7 * y, 255 - 3 * (x + y)], axis=-1).clip(0, 255).astype(np.uint8)


def encoded(picture: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_give_the_same_pixels(scene: Rgb, form: str) -> None:
    out = images.read(encoded(Image.fromarray(scene), form))
    assert np.array_equal(out, scene)
    assert out.dtype == np.uint8
    assert out.flags.c_contiguous
    assert out.flags.writeable


@pytest.mark.parametrize(
    "options", [{"quality": 70}, {"quality": 95, "subsampling": 0}, {"progressive": True}]
)
def test_the_fast_jpeg_path_equals_pillow_to_the_bit(scene: Rgb, options: dict[str, object]) -> None:
    data = encoded(Image.fromarray(scene).resize((511, 333)), "JPEG", **options)
    assert images._read_jpeg(data, "", 10**9) is not None, "the fast path was not taken"
    assert np.array_equal(images.read(data), np.asarray(Image.open(io.BytesIO(data))))


def test_lossy_webp_and_jpeg_are_near(scene: Rgb) -> None:
    for form in ("JPEG", "WEBP"):
        out = images.read(encoded(Image.fromarray(scene), form, quality=98))
        assert np.abs(out.astype(int) - scene).mean() < 3


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_undone(scene: Rgb, form: str, orientation: int) -> None:
    undo = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: lambda a: np.rot90(a, 1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 98} if form == "JPEG" else {"lossless": True} if form == "WEBP" else {}
    data = encoded(Image.fromarray(scene), form, exif=exif, **options)
    plain = images.read(encoded(Image.fromarray(scene), form, **options))
    upright = undo[orientation](plain)
    assert np.array_equal(images.read(data), upright)


def test_big_endian_exif_is_understood_by_the_fast_path(scene: Rgb) -> None:
    tiff = b"MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"
    data = encoded(Image.fromarray(scene), "JPEG", exif=b"Exif\x00\x00" + tiff)
    assert images.read(data).shape == (48, 32, 3)


def test_grey_palette_and_bilevel_become_rgb(scene: Rgb) -> None:
    grey = Image.fromarray(scene).convert("L")
    expected = np.repeat(np.asarray(grey)[..., None], 3, axis=2)
    assert np.array_equal(images.read(encoded(grey, "PNG")), expected)
    palette = Image.fromarray(scene).quantize(64)
    assert np.array_equal(images.read(encoded(palette, "PNG")), np.asarray(palette.convert("RGB")))
    bilevel = images.read(encoded(grey.point(lambda v: 255 * (v > 128)).convert("1"), "PNG"))
    assert set(np.unique(bilevel)) == {0, 255}


def test_a_grey_jpeg_takes_the_fast_path_and_is_equal(scene: Rgb) -> None:
    data = encoded(Image.fromarray(scene).convert("L"), "JPEG")
    assert np.array_equal(images.read(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(form: str) -> None:
    ramp = np.linspace(0, 65_535, 256).astype(np.uint16).reshape(16, 16)
    out = images.read(encoded(Image.fromarray(ramp), form))
    assert out[0, 0, 0] == 0
    assert out[-1, -1, 0] == 255
    assert np.abs(out[..., 0].astype(float).ravel() - np.arange(256)).max() <= 1


def test_sixteen_bit_colour_is_scaled_alike(scene: Rgb) -> None:
    import cv2

    done, data = cv2.imencode(".png", scene[..., ::-1].astype(np.uint16) * 257)
    assert done
    assert np.array_equal(images.read(data.tobytes()), scene)


def test_values_without_a_known_range_are_refused() -> None:
    with pytest.raises(ImageError, match="floating-point"):
        images.read(encoded(Image.fromarray(np.full((4, 4), 9, np.float32)), "TIFF"))
    with pytest.raises(ImageError, match="32-bit"):
        images.read(encoded(Image.fromarray(np.full((4, 4), 70_000, np.int32)), "TIFF"))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_lie_on_white(mode: str) -> None:
    picture = Image.new(mode, (3, 1))
    clear, half, full = ((0,) * (len(mode) - 1) + (alpha,) for alpha in (0, 128, 255))
    for x, value in enumerate((clear, half, full)):
        picture.putpixel((x, 0), value)
    out = images.read(encoded(picture, "PNG"))[0, :, 0]
    assert out.tolist() == [255, 127, 0]


def test_a_transparent_palette_gif_lies_on_white_and_gives_its_first_frame() -> None:
    first, second = Image.new("P", (8, 8), 1), Image.new("P", (8, 8), 2)
    for frame in (first, second):
        frame.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0])
        frame.putpixel((0, 0), 0)
    data = encoded(first, "GIF", save_all=True, append_images=[second], transparency=0)
    out = images.read(data)
    assert out[0, 0].tolist() == [255, 255, 255]
    assert out[4, 4].tolist() == [200, 0, 0]


def test_cmyk_is_converted() -> None:
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    red, green, blue = images.read(encoded(cyan, "JPEG", quality=95))[8, 8].tolist()
    assert red < 10
    assert green > 245
    assert blue > 245


def test_heic_is_read_or_names_its_remedy(scene: Rgb) -> None:
    heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    heif.from_pillow(Image.fromarray(np.kron(scene, np.ones((4, 4, 1), np.uint8)))).save(file, quality=90)
    out = images.read(file.getvalue())
    assert out.shape == (128, 192, 3)
    assert np.abs(out[::4, ::4].astype(int) - scene).mean() < 8
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    heif.from_pillow(Image.fromarray(out)).save(file, quality=90, exif=exif.tobytes())
    assert images.read(file.getvalue()).shape == (192, 128, 3)


def test_heic_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"pip install 'mien\[heic\]'"):
        images.read(b"\x00\x00\x00\x18ftypheic" + bytes(40))


def test_sources_of_every_kind_agree(scene: Rgb, tmp_path: Path) -> None:
    data = encoded(Image.fromarray(scene), "PNG")
    path = tmp_path / "scène 1\n.png"
    path.write_bytes(data)
    with path.open("rb") as file:
        ways = [images.read(path), images.read(str(path)), images.read(data), images.read(file)]
    assert all(np.array_equal(way, scene) for way in ways)


def test_reading_jpeg_does_not_import_pillow(tmp_path: Path, scene: Rgb) -> None:
    """Pillow's import is a tenth of a cold start."""
    import subprocess
    import sys

    (tmp_path / "a.jpg").write_bytes(encoded(Image.fromarray(scene), "JPEG"))
    code = "import sys; from mien.io import images; images.read(sys.argv[1]); sys.exit('PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.jpg")]).returncode == 0


def huge_png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(("width", "height"), [(50_000, 50_000), (10_001, 10_000), (13_000, 13_000)])
def test_a_bomb_is_refused_from_its_header(width: int, height: int) -> None:
    """Nothing of it is decoded: it has no pixels to decode."""
    with pytest.raises(ImageError, match="pixels"):
        images.read(huge_png(width, height))


def test_the_bound_is_the_callers_and_holds_for_jpeg_too(scene: Rgb) -> None:
    for form in ("JPEG", "PNG"):
        data = encoded(Image.fromarray(scene), form)
        assert images.read(data, max_pixels=48 * 32).shape == (32, 48, 3)
        with pytest.raises(ImageError, match=r"48 x 32 pixels is more than the limit of 1,535"):
            images.read(data, max_pixels=48 * 32 - 1)


BOUNDED = {
    "JPEG": {},
    "PNG": {},
    "WEBP lossy": {"quality": 50},
    "WEBP lossless": {"lossless": True},
    "WEBP animated": {"save_all": True, "append_images": [Image.new("RGB", (48, 32))]},
    "TIFF": {"compression": "tiff_lzw"},
    "BMP": {},
    "GIF": {},
    "PPM": {},
    "AVIF": {},
    "HEIF": {},
}


@pytest.mark.parametrize("form", BOUNDED)
def test_every_format_is_bounded_before_it_is_decoded(
    form: str, scene: Rgb, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`load` and the decoders that need no `load` must not be reached; one pixel more, and they are."""
    picture = Image.fromarray(scene)
    if form == "HEIF":
        heif = pytest.importorskip("pillow_heif")
        picture = Image.fromarray(np.kron(scene, np.ones((4, 4, 1), np.uint8)))
        file = io.BytesIO()
        heif.from_pillow(picture).save(file)
        data = file.getvalue()
    else:
        if form == "AVIF" and not features.check("avif"):
            pytest.skip("this Pillow has no AVIF")
        data = encoded(picture, form.split()[0], **BOUNDED[form])
    pixels = picture.width * picture.height
    assert images.read(data, max_pixels=pixels).shape == (picture.height, picture.width, 3)

    def decode(*_: object, **__: object) -> None:
        raise AssertionError("a decoder took memory for a picture that is too large")

    monkeypatch.setattr("cv2.imdecode", decode)
    monkeypatch.setattr(Image.Image, "load", decode)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decode)
    if form == "HEIF":
        monkeypatch.setattr(heif.HeifFile, "to_pillow", decode)
    if form.startswith("WEBP"):  # Pillow takes the memory of its canvas when it opens the file
        monkeypatch.setattr(Image, "open", decode)
    with pytest.raises(ImageError, match="more than the limit"):
        images.read(data, max_pixels=pixels - 1)


def scans_of(data: bytes) -> list[bytes]:
    """The scans of a JPEG, each from its marker on, without the end."""
    return [b"\xff\xda" + part for part in data[:-2].split(b"\xff\xda")[1:]]


def scan_bomb(scene: Rgb, scans: int) -> bytes:
    data = encoded(Image.fromarray(scene), "JPEG", progressive=True)
    last = scans_of(data)[-1]
    return data[:-2] + last * (scans - len(scans_of(data))) + b"\xff\xd9"


def test_scans_of_a_jpeg_are_bounded(scene: Rgb) -> None:
    """Each costs a pass over all pixels: 3,000 of them in 124 KB of 4000 x 4000 pixels take half a minute."""
    assert images.read(scan_bomb(scene, images.MAX_SCANS)).shape == scene.shape
    bomb = scan_bomb(scene, images.MAX_SCANS + 1)
    for data in (bomb, bomb[:-2]):  # without its end Pillow would decode it
        with pytest.raises(images.TooCostly, match="scans"):
            images.read(data)


def test_bytes_that_look_like_scans_are_none(scene: Rgb) -> None:
    """In a preview, a comment, or a film after the picture's end."""
    many = b"\xff\xda" * 2 * images.MAX_SCANS
    plain = encoded(Image.fromarray(scene), "JPEG", quality=95)
    commented = plain[:2] + b"\xff\xfe" + struct.pack(">H", len(many) + 2) + many + plain[2:]
    with_film = plain + many + b"\xff\xd9"
    for data in (commented, with_film):
        assert np.array_equal(images.read(data), images.read(plain))


@pytest.mark.parametrize("filler", [b"\xff\x01", b"\xff\xd0", b"\xff\xff\xff", b"garbage", b"\xff\x00"])
def test_a_jpeg_cannot_show_another_size_than_the_decoder_sees(scene: Rgb, filler: bytes) -> None:
    """The decoder skips what stands between segments; what is bounded must be the frame that it goes on with."""
    plain = encoded(Image.fromarray(scene), "JPEG")
    small = b"\xff\xc0\x00\x0b\x08\x00\x01\x00\x01\x01\x11\x00\x11"  # a frame of 1 x 1 pixel
    comment = b"\xff\xfe" + struct.pack(">H", len(small) + 2) + small
    assert plain[2:6] == b"\xff\xe0\x00\x10"  # the first segment, of 18 bytes
    data = plain[:20] + filler + comment + plain[20:]
    assert images._jpeg_frame(data, "")[:2] == (48, 32)  # type: ignore[index]
    with pytest.raises(ImageError, match=r"48 x 32 pixels"):
        images.read(data, max_pixels=100)


def test_a_jpeg_of_millions_of_segments_is_given_up(scene: Rgb) -> None:
    plain = encoded(Image.fromarray(scene), "JPEG")
    with pytest.raises(images.TooCostly, match="segments"):
        images.read(plain[:2] + b"\xff\xfe\x00\x02" * 1_000_000 + plain[2:])


@pytest.mark.parametrize(
    ("form", "kind"), [("PNG", "exif"), ("WEBP", "xmp"), ("WEBP", "icc_profile"), ("TIFF", "icc_profile")]
)
def test_metadata_is_bounded(scene: Rgb, form: str, kind: str) -> None:
    head = b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0" if kind == "exif" else b"<x/>"
    for size in (images.MAX_METADATA // 2, images.MAX_METADATA + 100):
        data = encoded(Image.fromarray(scene), form, **{kind: head + bytes(size)})
        if size < images.MAX_METADATA:
            assert images.read(data).shape == scene.shape
        else:
            with pytest.raises(images.TooCostly, match="save it without"):
                images.read(data)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.97])
def test_truncated_files_are_one_line(scene: Rgb, form: str, share: float) -> None:
    data = encoded(Image.fromarray(scene).resize((200, 150)), form)
    with pytest.raises(ImageError) as caught:
        images.read(data[: int(len(data) * share)])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM"])
def test_damaged_files_never_raise_anything_else(scene: Rgb, form: str) -> None:
    """Two hundred files with a few bytes overwritten: a picture or an `ImageError`."""
    random = np.random.default_rng(0)
    data = np.frombuffer(encoded(Image.fromarray(scene), form), np.uint8)
    for _ in range(200):
        bad = data.copy()
        bad[random.integers(0, len(bad), 4)] = random.integers(0, 256, 4)
        message = ""
        try:
            assert images.read(bad.tobytes(), max_pixels=10**6).ndim == 3
        except ImageError as problem:
            message = str(problem)
        assert "\n" not in message


def test_bad_paths_each_say_their_own_line(tmp_path: Path, scene: Rgb) -> None:
    good = encoded(Image.fromarray(scene), "JPEG")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_bytes(b"hello, this is no picture")
    (tmp_path / "video.jpg").write_bytes(b"\x00\x00\x00\x18ftypisom" + bytes(40))
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "link.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "locked.jpg").write_bytes(good)
    os.mkfifo(tmp_path / "pipe.jpg")
    expected = {
        "empty.jpg": "empty",
        "text.jpg": r"is not a picture \(it begins with the text 'hello, this '\): convert",
        "video.jpg": "mien video",
        "folder.jpg": "is a folder",
        "link.jpg": "link to nowhere.jpg, which does not exist",
        "missing.jpg": "no such file",
        "pipe.jpg": "not a regular file",
        "new\nline.jpg": r"new\\nline.jpg'?: no such file",
        "x" * 300: "file name too long",
        "null\0.jpg": "null",
    }
    for name, message in expected.items():
        with pytest.raises(ImageError, match=message) as caught:
            images.read(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_locked_file_says_so(tmp_path: Path, scene: Rgb) -> None:
    path = tmp_path / "locked.jpg"
    path.write_bytes(encoded(Image.fromarray(scene), "JPEG"))
    path.chmod(0)
    with pytest.raises(ImageError, match="chmod"):
        images.read(path)


def test_permission_is_explained_whoever_runs_the_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "locked.jpg"
    path.write_bytes(b"x")

    def refuse(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ImageError, match=r"locked.jpg: may not be read: grant permission with chmod"):
        images.read(path)


def test_files_open_as_text_or_closed_are_refused(tmp_path: Path, scene: Rgb) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.fromarray(scene), "PNG"))
    with path.open("rb") as file:
        pass
    with pytest.raises(ImageError, match="closed"):
        images.read(file)
    with pytest.raises(ImageError, match="binary mode"):
        images.read(io.StringIO("text"))  # type: ignore[arg-type]
    with pytest.raises(ImageError, match="<int> is not a picture: pass a path, bytes"):
        images.read(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("array", "remedy"),
    [
        ([[1]], "numpy array"),
        (np.zeros((2, 4, 4, 3), np.uint8), "batch"),
        (np.zeros((4, 4, 5), np.uint8), r"\[height, width, 3\]"),
        (np.zeros((3, 40, 50), np.uint8), "transpose"),
        (np.full((4, 4, 3), 200.0), "from 200 to 200: scale to 0..255"),
        (np.full((4, 4, 3), np.nan), "from nan"),
        (np.full((4, 4), -0.5, np.float16), "from -0.5"),
        (np.zeros((4, 4, 3), np.uint16), "scale to 0..255"),
        (np.zeros((0, 4, 3), np.uint8), r"\[height, width, 3\]"),
        (np.zeros((4, 0, 4), np.uint8), r"\[height, width, 3\]"),
        (np.uint8(3), "numpy array"),
    ],
)
def test_a_wrong_array_is_refused_with_the_remedy(array: object, remedy: str) -> None:
    with pytest.raises(ImageError, match=remedy):
        images.check(array)


def test_arrays_of_usual_forms_become_pictures(scene: Rgb) -> None:
    grey = scene[..., 0]
    three = np.repeat(grey[..., None], 3, axis=2)
    for array in (grey, grey[..., None], grey / 255, (grey / 255)[..., None]):
        np.testing.assert_array_equal(images.check(array), three)
    np.testing.assert_array_equal(images.check((scene / 255).astype(np.float32)), scene)
    np.testing.assert_array_equal(images.check(grey > 128), np.where(three > 128, 255, 0))
    alpha = np.zeros_like(grey)
    alpha[:, 20:] = 255
    laid = np.where(alpha[..., None] == 0, 255, scene)  # on white, as of a file
    np.testing.assert_array_equal(images.check(np.dstack([scene, alpha])), laid)
    np.testing.assert_array_equal(
        images.check(np.dstack([grey, alpha])), np.where(alpha[..., None] == 0, 255, three)
    )


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "CMYK", "RGBA", "LA", "I;16", "F", "YCbCr", "HSV"])
def test_a_pillow_picture_is_what_its_file_would_be(scene: Rgb, mode: str) -> None:
    base = Image.fromarray(scene)
    if mode == "F":
        picture = Image.fromarray(scene[..., 0] / np.float32(255))
    elif mode == "I;16":
        picture = Image.fromarray(scene[..., 0].astype(np.uint16) * 257)
    else:
        picture = base.convert(mode)
    shown = images.check(picture)
    assert shown.shape == scene.shape
    colour = mode in ("RGB", "RGBA", "CMYK", "YCbCr", "HSV", "P")
    expected = scene if colour else np.repeat(np.asarray(base.convert("L"))[..., None], 3, axis=2)
    if mode in ("F", "I;16"):
        expected = np.repeat(scene[..., :1], 3, axis=2)
    if mode not in ("1", "P"):
        assert np.abs(shown.astype(int) - expected).mean() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_pillow_picture_is_turned_upright(scene: Rgb, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(scene), "PNG", exif=exif)
    np.testing.assert_array_equal(images.check(Image.open(io.BytesIO(data))), images.read(data))


def test_a_huge_or_damaged_pillow_picture_is_one_line(scene: Rgb) -> None:
    with pytest.raises(images.TooLarge, match="limit of 100"):
        images.check(Image.fromarray(scene), max_pixels=100)
    data = encoded(Image.fromarray(scene), "PNG")
    with pytest.raises(ImageError, match="damaged PNG"):
        images.check(Image.open(io.BytesIO(data[:-60])))


def test_float_tiffs_are_read_or_said_to_be_such(scene: Rgb, tmp_path: Path) -> None:
    unit = (scene / 255).astype(np.float32)
    path = tmp_path / "float.tiff"
    for values, expected in ((unit, scene), (unit[..., 0], np.repeat(scene[..., :1], 3, axis=2))):
        assert cv2.imwrite(str(path), values[..., ::-1] if values.ndim == 3 else values)
        np.testing.assert_array_equal(images.read(path), expected)
        assert cv2.imwrite(str(path), 7 * (values[..., ::-1] if values.ndim == 3 else values))
        with pytest.raises(ImageError, match="has floating-point values from 0 to"):
            images.read(path)
    with pytest.raises(images.TooLarge):
        images.read(path, max_pixels=100)
    assert cv2.imwrite(str(path), scene.astype(np.int32))
    with pytest.raises(ImageError, match="32-bit whole-number values: save it with 8 or 16"):
        images.read(path)


def test_a_right_array_passes_unchanged(scene: Rgb) -> None:
    assert images.check(scene) is scene
    turned = images.check(scene[:, ::-1])
    assert turned.flags.c_contiguous
    assert np.array_equal(turned, scene[:, ::-1])


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".PNG"])
def test_what_is_written_losslessly_is_read_back(tmp_path: Path, scene: Rgb, suffix: str) -> None:
    images.write(tmp_path / f"a{suffix}", scene)
    assert np.array_equal(images.read(tmp_path / f"a{suffix}"), scene)


def test_jpeg_and_webp_have_a_quality(tmp_path: Path, scene: Rgb) -> None:
    noisy = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for suffix in (".jpg", ".webp"):
        sizes = []
        for quality in (50, 95):
            images.write(tmp_path / f"a{suffix}", noisy, quality=quality)
            sizes.append((tmp_path / f"a{suffix}").stat().st_size)
        assert sizes[1] > 1.5 * sizes[0]
    images.write(tmp_path / "b.jpg", scene)
    assert np.abs(images.read(tmp_path / "b.jpg").astype(int) - scene).mean() < 2


def test_writing_is_all_or_nothing(tmp_path: Path, scene: Rgb, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    images.write(path, scene)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    before = path.read_bytes()
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ImageError, match="no space left"):
        images.write(path, 255 - scene)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]


def test_writing_refuses_what_it_cannot_write(tmp_path: Path, scene: Rgb) -> None:
    with pytest.raises(ImageError, match=r"cannot write '.gif': use .jpg"):
        images.write(tmp_path / "a.gif", scene)
    with pytest.raises(ImageError, match="no such file or directory"):
        images.write(tmp_path / "none" / "a.png", scene)
    with pytest.raises(ImageError, match="uint8"):
        images.write(tmp_path / "a.png", scene.astype(np.int64))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("a b.jpg", "a b.jpg"),
        (Path("a\nb"), r"'a\nb'"),
        ("", "''"),
        (b"123", "<3 bytes>"),
        (io.BytesIO(), "<BytesIO>"),
    ],
)
def test_sources_are_named_on_one_line(source: object, shown: str) -> None:
    assert images.describe(source) == shown


@pytest.mark.parametrize(
    ("suffix", "known"),
    [
        (".jpg", "JPEG"),
        (".png", "PNG"),
        (".webp", "WEBP"),
        (".bmp", "BMP"),
        (".tiff", "TIFF"),
    ],
)
def test_the_first_bytes_tell_the_format(scene: Rgb, suffix: str, known: str) -> None:
    assert images.file_type(images.encode(Path(f"a{suffix}"), scene)) == known


def test_videos_and_other_files_are_no_picture_format() -> None:
    assert images.file_type(b"\0\0\0\x18ftypisom\0\0\0\0") == "VIDEO"
    assert images.file_type(b"\0\0\0\x18ftypheic\0\0\0\0") == "HEIF"
    assert images.file_type(b"\0\0\0\x18ftypavif\0\0\0\0") == "AVIF"
    assert images.file_type(b"P6\n2 2\n255\n") == "PPM"
    assert images.file_type(b"RIFF\0\0\0\0WAVEfmt ") is None  # sound in the container of WebP
    assert images.file_type(b"") is None
