"""Every door through which bytes of strangers come in, each as a function that fails only on a defect.

A target takes a case, hands it to the door, and lets a `MienError` pass: that is the right answer to nonsense. Whatever
else comes out (an exception of another kind, a picture that is none, an answer the API does not document) is a defect.
`SEEDS` gives the sound files that are spoilt; they are drawn or written here, so that nothing has to be kept.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from mien.errors import MienError

ROOT = Path(__file__).parents[2]
MOST_PIXELS = 4_000_000
"""What fuzzed pictures may hold: a case that decodes more has passed the bound, which is the point of the bound."""

Target = Callable[[bytes], None]


@cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="mien-fuzz-"))


def _file(name: str, data: bytes) -> Path:
    path = _folder() / name
    path.write_bytes(data)
    return path


def tolerant(door: Callable[[], Any]) -> Any:
    """What the door returns; None where it refuses with one line that says what to do."""
    try:
        return door()
    except MienError as refusal:
        said = str(refusal)
        assert said, "an empty message"
        assert "\n" not in said, f"more than one line: {said!r}"
        return None


# Pictures ------------------------------------------------------------------------------------------------------------


@cache
def pictures() -> tuple[bytes, ...]:
    """Small files of every format and of the forms in which each comes."""
    from PIL import Image

    random = np.random.default_rng(0)
    ramp = np.add.outer(np.arange(30), np.arange(40)) * 3
    rgb = Image.fromarray(
        np.clip(ramp[..., None] + random.integers(0, 40, (30, 40, 3)), 0, 255).astype(np.uint8)
    )
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    alpha = rgb.convert("RGBA")
    alpha.putalpha(Image.fromarray((ramp % 256).astype(np.uint8)))
    palette = rgb.quantize(16)
    deep = Image.fromarray((ramp * 200).astype(np.uint16))
    frames = {"save_all": True, "append_images": [rgb.transpose(Image.Transpose.ROTATE_180).quantize(8)]}
    wanted: list[tuple[Image.Image, str, dict[str, Any]]] = [
        (rgb, "JPEG", {}),
        (rgb, "JPEG", {"progressive": True, "exif": exif, "icc_profile": b"\0" * 132}),
        (rgb.convert("L"), "JPEG", {"restart_marker_rows": 1}),
        (rgb.convert("CMYK"), "JPEG", {}),
        (rgb, "PNG", {"exif": exif}),
        (alpha, "PNG", {}),
        (palette, "PNG", {"transparency": 3}),
        (deep, "PNG", {}),
        (rgb.convert("1"), "PNG", {}),
        (palette, "GIF", frames),
        (rgb, "WEBP", {"exif": exif}),
        (alpha, "WEBP", {"lossless": True}),
        (rgb, "BMP", {}),
        (palette, "BMP", {}),
        (rgb, "TIFF", {"exif": exif}),
        (rgb, "TIFF", {"compression": "tiff_lzw"}),
        (rgb, "TIFF", {"compression": "tiff_adobe_deflate"}),
        (rgb, "TIFF", {"compression": "jpeg"}),
        (deep, "TIFF", {}),
        (rgb.convert("F"), "TIFF", {}),
        (rgb.convert("1"), "TIFF", {"compression": "group4"}),
        (rgb, "PPM", {}),
        (deep, "PPM", {}),
    ]
    made = []
    for picture, form, options in wanted:
        stream = io.BytesIO()
        picture.save(stream, form, **options)
        made.append(stream.getvalue())
    made.append(b"P3\n2 2\n255\n" + b"12 200 0 " * 4)
    for form, module in (("AVIF", "PIL"), ("HEIF", "pillow_heif")):
        stream = io.BytesIO()
        try:
            __import__(module)
            if form == "HEIF":
                import pillow_heif

                pillow_heif.from_pillow(rgb).save(stream)
            else:
                rgb.save(stream, form)
        except (ImportError, KeyError, OSError, ValueError):  # this Pillow has no encoder for it
            continue
        made.append(stream.getvalue())
    return tuple(made)


def images(data: bytes) -> None:
    """`read` never gives anything but RGB within the bound."""
    from mien.io import images as door

    picture = tolerant(lambda: door.read(data, max_pixels=MOST_PIXELS))
    if picture is not None:
        assert picture.dtype == np.uint8
        assert picture.ndim == 3
        assert picture.shape[2] == 3
        assert 0 < picture.shape[0] * picture.shape[1] <= MOST_PIXELS
        assert picture.flags.c_contiguous


def photos(data: bytes) -> None:
    """The editor's own reading keeps alpha, depth and EXIF, and what it keeps can be written again."""
    from mien.editing.photo import encode, open_photo

    photo = tolerant(lambda: open_photo(data, MOST_PIXELS))
    if photo is not None:
        assert photo.alpha is None or photo.alpha.shape == photo.colour.shape[:2]
        for suffix in (".png", ".jpg"):
            tolerant(lambda suffix=suffix: encode(photo, suffix))


@cache
def _pipeline() -> Any:
    from mien.faces.pipeline import load

    return load(threads=1, max_pixels=MOST_PIXELS)


def analyses(data: bytes) -> None:
    """The whole pipeline: what is decoded is also searched, whatever its shape."""
    analysis = tolerant(lambda: _pipeline()(data))
    if analysis is not None:
        json.loads(analysis.to_json(), parse_constant=_no_constant)


def _no_constant(word: str) -> None:
    raise AssertionError(f"{word} in JSON")


# What lies beside weights, and the weights ----------------------------------------------------------------------------


@cache
def card_files() -> tuple[bytes, ...]:
    from mien.io.cards import FOLDER

    return tuple(path.read_bytes() for path in sorted(FOLDER.rglob("*.json")))


def cards(data: bytes) -> None:
    """A card is read, or refused; the weights of a spoilt card are refused too, or are still those of the card."""
    from mien.io import cards as door

    path = _file("card.json", data)
    card = tolerant(lambda: door.read(path))
    if card is not None:
        assert isinstance(card.text(), str)
        assert isinstance(card.name + card.task, str)
        for key in ("temperature", "uncertain_below"):
            tolerant(lambda key=key: card.number(key, 1.0))
        _file("card.onnx", b"not the weights")
        tolerant(lambda: door.verified(path.with_suffix(".onnx")))


def recognisers(data: bytes) -> None:
    """Weights with a card of a stranger: the card's every number is checked before it is used."""
    import hashlib
    import shutil

    from mien.faces.recognise import SHIPPED, OnnxRecogniser

    weights = _folder() / "stranger.onnx"
    if not weights.exists():
        shutil.copyfile(SHIPPED, weights)
    try:
        fields = json.loads(data)
        fields["sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
    except (ValueError, TypeError, RecursionError):
        return
    _file("stranger.json", json.dumps(fields).encode("utf-8", "surrogatepass"))
    recogniser = tolerant(lambda: OnnxRecogniser.load(weights, threads=1))
    if recogniser is not None and recogniser.size < 500:
        crop = np.full((1, recogniser.size, recogniser.size), 128, np.uint8)
        (reading,) = recogniser(crop)
        assert np.isfinite(list(reading.probabilities.values())).all()


@cache
def checkpoint_files() -> tuple[bytes, ...]:
    import torch

    from mien import methods
    from mien.training import checkpoint

    torch.manual_seed(0)
    options = {"name": "baseline", "backbone": "tiny"}
    path = _folder() / "seed.safetensors"
    checkpoint.save(path, methods.build(options, 32), {"method": options, "size": 32, "note": "ä"})
    whole = path.read_bytes()
    # The header is where the structure is; a short body keeps the cases short.
    return (whole,)


def checkpoints(data: bytes) -> None:
    from mien.training import checkpoint

    path = _file("weights.safetensors", data)
    stored = tolerant(lambda: checkpoint.load(path))
    if stored is not None:
        tolerant(stored.restore)


@cache
def text_files() -> tuple[bytes, ...]:
    from mien.methods import text_embeddings

    return tuple(path.read_bytes() for path in sorted(text_embeddings.STORED.glob("*.safetensors")))


def texts(data: bytes) -> None:
    from mien.methods import text_embeddings

    tolerant(lambda: text_embeddings.load(str(_file("text.safetensors", data))))


# Configurations and tables --------------------------------------------------------------------------------------------


@cache
def config_files() -> tuple[bytes, ...]:
    return tuple(path.read_bytes() for path in sorted((ROOT / "configs").glob("*.yaml")))


def configs(data: bytes) -> None:
    """A run's configuration, a release's, a protocol, and one `--set`; what is read can be written with the result."""
    from mien.data import protocols
    from mien.release import build as release
    from mien.training.config import load_config

    path = _file("config.yaml", data)
    config = tolerant(lambda: load_config(path))
    if config is not None:
        json.dumps(config.model_dump(mode="json"))
    tolerant(lambda: release.load(path))
    tolerant(lambda: protocols.load(path))
    tolerant(lambda: load_config(ROOT / "configs" / "baseline-ferplus.yaml", [_text(data[:300])]))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


@cache
def manifest_files() -> tuple[bytes, ...]:
    from mien.data.readers import manifest
    from mien.data.records import Record

    folder = _folder()
    records = [
        Record(
            path=folder / f"{name}.png",
            split="train",
            expression=number % 8,
            valence=0.5,
            arousal=-0.25,
            votes=(0.5, 0.5, 0, 0, 0, 0, 0, 0),
            subject=name,
            video="clip",
            frame=number,
            box=(1.0, 2.0, 30.0, 40.0),
            name=name,
            attributes={"gender": "female"},
        )
        for number, name in enumerate(("anna", "bert", "cleo"))
    ]
    made = []
    for suffix in (".csv", ".parquet"):
        path = folder / f"seed{suffix}"
        manifest.write(records, path)
        made.append(path.read_bytes())
    made.append(b"image,emotion,subject\nanna.png,Happy,1\nbert.png,unknown,2\n")
    return tuple(made)


def manifests(data: bytes) -> None:
    from mien.data.readers import READERS

    suffix = ".parquet" if data[:4] == b"PAR1" else ".csv"
    path = _file(f"manifest{suffix}", data)
    tolerant(lambda: READERS["manifest"](path, partial=True))


@cache
def table_files() -> tuple[bytes, ...]:
    from mien.io import tables
    from mien.types import Analysis

    analysis = Analysis.from_json(analysis_lines()[0].decode())
    made = []
    for suffix in tables.FORMATS:
        path = _folder() / f"seed-table{suffix}"
        with tables.Writer(path, landmarks=False) as table:
            table.write(analysis)
        made.append(path.read_bytes())
    return tuple(made)


def table(data: bytes) -> None:
    from mien.io import tables

    suffix = ".parquet" if data[:4] == b"PAR1" else ".jsonl" if data[:1] == b"{" else ".csv"
    path = _file(f"table{suffix}", data)
    tolerant(lambda: list(tables.load(path)))
    tolerant(lambda: tables.done(path))


@cache
def part_files() -> tuple[bytes, ...]:
    from mien.io import tables
    from mien.types import Analysis

    analysis = Analysis.from_json(analysis_lines()[0].decode())
    table = tables.Writer(_folder() / "seed-part.csv", landmarks=False)
    for _ in range(2):
        table.write(analysis)
    table.close()
    return ((_folder() / "seed-part.csv.part").read_bytes(),)


def parts(data: bytes) -> None:
    """An unfinished table that was spoilt is finished without its spoilt lines, or refused."""
    from mien.io import tables

    (_folder() / "resumed.csv").unlink(missing_ok=True)
    _file("resumed.csv.part", data)

    def resume() -> None:
        with tables.Writer(_folder() / "resumed.csv", resume=True, landmarks=False):
            pass
        list(tables.load(_folder() / "resumed.csv"))

    tolerant(resume)


@cache
def prediction_files() -> tuple[bytes, ...]:
    from mien.data.predictions import Predictions, RunInfo
    from mien.labels import EXPRESSIONS

    fields = {"model": "m", "commit": "c", "dataset": "d", "protocol": "p", "split": "test"}
    known = {key: value for key, value in fields.items() if key in RunInfo.__dataclass_fields__}
    given = Predictions.of_logits(
        ["a", "b"], [0, 1], np.eye(2, len(EXPRESSIONS)), classes=EXPRESSIONS, provenance=RunInfo(**known)
    )
    path = given.save(_folder() / "seed-predictions.parquet")
    return (path.read_bytes(),)


def predictions(data: bytes) -> None:
    from mien.data.predictions import Predictions

    path = _file("predictions.parquet", data)
    tolerant(lambda: Predictions.load(path))


@cache
def analysis_lines() -> tuple[bytes, ...]:
    from mien.server.openapi import EXAMPLE

    return (json.dumps(EXAMPLE).encode(),)


def analysis_json(data: bytes) -> None:
    from mien.types import Analysis

    analysis = tolerant(lambda: Analysis.from_json(_text(data)))
    if analysis is not None:
        assert Analysis.from_json(analysis.to_json()) == analysis


@cache
def signed_files() -> tuple[bytes, ...]:
    """Pictures with a C2PA manifest and XMP, as the editor writes them; none where c2pa is not installed."""
    try:
        import c2pa  # noqa: F401
    except ImportError:
        return pictures()[:4]
    from mien.editing.editor import Editor
    from mien.editing.provenance import write_edit
    from mien.editing.signing import Signer

    edit = Editor.load(threads=1)(
        (ROOT / "examples" / "portrait_neutral.jpg").read_bytes(), "happiness", force=True
    )
    made = []
    for suffix in (".jpg", ".webp"):
        path = _folder() / f"signed{suffix}"
        for old in _folder().glob(path.name + "*"):
            old.unlink()
        write_edit(edit, path, signer=Signer.of_install(_folder() / "signing"), quality=5)
        made.append(path.read_bytes())
    return tuple(made)


def provenance(data: bytes) -> None:
    from mien.editing.provenance import verify

    path = _file("edited.jpg", data)
    verdict = tolerant(lambda: verify(path))
    assert verdict is None or verdict.manifest or not verdict.intact


def sidecars(data: bytes) -> None:
    """The JSON beside an edited picture."""
    from mien.editing.provenance import SIDECAR, verify

    path = _file("beside.png", pictures()[4])
    path.with_name(path.name + SIDECAR).write_bytes(data)
    tolerant(lambda: verify(path))


# The API --------------------------------------------------------------------------------------------------------------

STATUSES = {200, 400, 401, 403, 404, 405, 408, 413, 415, 421, 422, 429, 501, 503, 504}
"""What docs/serving.md documents, without 500."""


@cache
def _client() -> Any:
    from fastapi.testclient import TestClient

    from mien.server.app import create_app
    from mien.server.limits import Limits

    client = TestClient(
        create_app(_pipeline(), limits=Limits(pixels=MOST_PIXELS)), raise_server_exceptions=True
    )
    client.__enter__()
    return client


@cache
def form_bodies() -> tuple[bytes, ...]:
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    field = b'--x\r\nContent-Disposition: form-data; name="target"\r\n\r\nhappiness\r\n'
    return tuple(
        field * extra + head + data + b"\r\n--x--\r\n" for extra in (0, 1) for data in pictures()[:6]
    )


def forms(data: bytes) -> None:
    """Whatever a form holds, the answer is an analysis or a refusal of the documented form."""
    answer = _client().post(
        "/v1/analyses", content=data, headers={"content-type": "multipart/form-data; boundary=x"}
    )
    assert answer.status_code in STATUSES, answer.text
    body = answer.json()
    if answer.status_code != 200:
        assert set(body) == {"error", "message"}
        assert "\n" not in body["message"]


TARGETS: dict[str, tuple[Target, Callable[[], tuple[bytes, ...]], str]] = {
    "images": (images, pictures, "PIL"),
    "photos": (photos, pictures, "PIL"),
    "analyses": (analyses, pictures, "PIL"),
    "cards": (cards, card_files, "json"),
    "recognisers": (recognisers, lambda: card_files()[-1:], "onnxruntime"),
    "checkpoints": (checkpoints, checkpoint_files, "safetensors.torch"),
    "texts": (texts, text_files, "safetensors"),
    "configs": (configs, config_files, "torch"),
    "manifests": (manifests, manifest_files, "pyarrow"),
    "tables": (table, table_files, "pyarrow"),
    "parts": (parts, part_files, "pyarrow"),
    "predictions": (predictions, prediction_files, "pyarrow"),
    "analysis_json": (analysis_json, analysis_lines, "fastapi"),
    "provenance": (provenance, signed_files, "c2pa"),
    "sidecars": (sidecars, lambda: (b'{"sha256": "ab", "faces": []}',), "c2pa"),
    "forms": (forms, form_bodies, "fastapi"),
}
"""By name: the target, its seeds, and the module without which it cannot be tried."""
