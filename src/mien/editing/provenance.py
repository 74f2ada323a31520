"""Record in an edited file that it was edited, how, and by which software: C2PA, XMP/IPTC, an invisible mark, and a
JSON file beside it.

- **C2PA** (Content Credentials): a signed manifest with the action `c2pa.edited`, the digital source type
  `compositeWithTrainedAlgorithmicMedia`, the target and strength, the version of the tool and of its weights, and the
  unedited photo as parent ingredient (its hash, not its pixels). It becomes invalid if the pixels are changed
  afterwards.
- **XMP**: IPTC's `DigitalSourceType`, which many platforms read. The XMP of the input is kept, except for its own value
  of that property, which the record names.
- **Invisible mark** (`mien.editing.mark`) in the pixels of photos and sheets, which stays when the rest is stripped.
- **JSON**: the same facts and the SHA-256 of both files, also if nothing could be written into the picture.

The signing key is made on this machine at first use and does not identify a person, so readers rightly report
`signingCredential.untrusted`. It proves that the file is unchanged, not who made it. Use your own certificate with
`Signer.of_files`. No time stamp server is contacted and no remote manifest is fetched: nothing leaves the machine.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mien import __version__
from mien.editing.mark import LEAST, Mark, add, find, find_uncropped
from mien.editing.photo import WRITABLE, encode
from mien.editing.signing import ProvenanceError, Signer, _fault
from mien.errors import ExtraMissing, ImageError, OutputExists
from mien.io import atomic, images, outputs
from mien.io.outputs import SIDECAR
from mien.urls import without_secrets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mien.editing.photo import Photo
    from mien.editing.results import Edit

SOURCE_TYPE: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
_MIME: Final = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".gif": "image/gif",
    ".mp4": "video/mp4",
}


_ONLY_PICTURES: Final = {"left_out": "only photos and sheets have one"}


def marked(edit: Edit, wanted: bool = True, kind: str = "photo") -> tuple[Photo, dict[str, Any]]:
    """The edited photo with the invisible mark, and the record of the mark: its contents, or why it is left out.

    Outside the face the pixels of `edit.photo` are those of the original. Here they are not, if there is a mark.
    """
    if not wanted:
        return edit.photo, {"left_out": "not wanted"}
    before = find_uncropped(edit.original).mark
    mark = Mark(kind=kind, generation=min(before.generation + 1, 15) if before else 1)
    photo = add(edit.photo, mark)
    if photo is None:
        return edit.photo, {"left_out": f"fewer than {LEAST} x {LEAST} pixels"}
    record = {"version": mark.version, "kind": kind, "generation": mark.generation}
    return photo, record | ({"input": before.describe()} if before else {})


def facts(edit: Edit, consent: bool = False, mark: dict[str, Any] | None = None) -> dict[str, Any]:
    """The recorded facts of an edit, as JSON types; no pixels, no landmarks, no name. `mark` is that of `marked`."""
    earlier = _SOURCE_TYPE.search(_xmp_of(edit.original.data).decode("utf-8", "replace"))
    return {
        "tool": f"mien {__version__}",
        "weights": weights_digest(),
        "target": edit.target,
        "consent_stated": consent,
        "faces": [
            {
                "face": face.face,
                # With keys, because C2PA's encoder turns a list of small numbers into bytes.
                "box": {name: round(getattr(face.box, name)) for name in ("x", "y", "width", "height")},
                "strengths": face.asked,
                "intensity": face.intensity,
                "applied": round(face.applied, 4),
                **({"gaze": dict(zip(("across", "up"), face.gaze, strict=True))} if any(face.gaze) else {}),
                "flags": list(face.flags),
            }
            for face in edit.faces
        ],
        "invisible_mark": _ONLY_PICTURES if mark is None else mark,
        "digital_source_type": SOURCE_TYPE,
        **({"input_digital_source_type": earlier["value"] or earlier["text"]} if earlier else {}),
        "statement": "The expression shown in this picture was changed by software. It says nothing about what the "
        "person felt.",
    }


def weights_digest(learned: bool = True) -> str:
    """SHA-256 over the editor's weight files, sorted by name; `learned` includes those trained by
    `mien.training.editor.train`."""
    digest = hashlib.sha256()
    folder = Path(images.__file__).parent / "weights" / "editor"
    for path in sorted([*folder.glob("*.npz"), *(folder.glob("*.onnx") if learned else ())]):
        digest.update(path.read_bytes())
    return digest.hexdigest()


_SOURCE_TYPE: Final = re.compile(
    r"""\s[\w.-]+:DigitalSourceType\s*=\s*(?P<quote>["'])(?P<value>[^"'<]*)(?P=quote)"""
    r"""|<(?P<tag>[\w.-]+:DigitalSourceType)\s*>(?P<text>[^<]*)</(?P=tag)\s*>"""
)
"""The IPTC property in a packet of XMP, as attribute or element."""
_LONGEST_XMP: Final = 60_000
"""Bytes of a packet that fits into one segment of a JPEG file, with what `xmp` adds."""


def xmp(mark: dict[str, Any] | None = None, original: bytes = b"") -> bytes:
    """An XMP packet with IPTC's digital source type, the tool, and whether there is an invisible mark; and with the XMP
    of the file `original`, unless it is not well formed or too long for a JPEG file."""
    kept = _xmp_of(original).decode("utf-8", "replace")
    properties = (
        '<rdf:Description rdf:about="" xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" '
        'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:mien="urn:mien:edit:1" '
        f'mien:EditedBy="mien {__version__}" mien:InvisibleMark="{_in_words(mark)}"'
    )
    if "CreatorTool" not in kept:
        properties += f' xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:CreatorTool="mien {__version__}"'
    properties += (
        f"><Iptc4xmpExt:DigitalSourceType>{SOURCE_TYPE}</Iptc4xmpExt:DigitalSourceType></rdf:Description>"
    )
    packet = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"></rdf:RDF>'
    if kept.count("</rdf:RDF>") == 1 and len(kept.encode()) < _LONGEST_XMP:
        packet = _SOURCE_TYPE.sub("", kept)
    head, _, _ = packet.rpartition("</rdf:RDF>")
    return (
        f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>{head}{properties}</rdf:RDF></x:xmpmeta>'
        '<?xpacket end="w"?>'
    ).encode()


def _in_words(mark: dict[str, Any] | None) -> str:
    record = _ONLY_PICTURES if mark is None else mark
    return f"none: {record['left_out']}" if "left_out" in record else f"version {record['version']}"


def write_edit(
    edit: Edit,
    path: Path,
    *,
    provenance: bool = True,
    mark: bool = True,
    kind: str = "photo",
    signer: Signer | None = None,
    consent: bool = False,
    quality: int = 95,
    overwrite: bool = False,
) -> Path:
    """Write an edited picture with its provenance, and the JSON beside it; return the JSON's path.

    Without `overwrite` no existing file is replaced. `provenance=False` writes the picture without manifest and XMP,
    `mark=False` without the invisible mark; the records that remain say so. `kind` is one of `mien.editing.mark.KINDS`.
    `signer` defaults to this installation's key.

    Raises:
        OutputExists: the path exists.
        ConfigError: its folder does not.
        ImageError: the suffix is not a picture format, or the file cannot be written.
        ExtraMissing: provenance is requested and `c2pa-python` is not installed.
        ProvenanceError: the manifest could not be signed.
    """
    path = Path(path)
    if path.suffix.lower() not in WRITABLE:
        raise ImageError(f"{path}: cannot write '{path.suffix}': use one of {', '.join(WRITABLE)}")
    free(path, overwrite)
    # 16-bit files keep their depth but no XMP (`encode`); their manifest states the same.
    photo, record = marked(edit, mark, kind)
    packet = xmp(record, edit.original.data) if provenance else b""
    data = encode(photo, path.suffix, packet, quality)
    return write_file(
        data,
        path,
        edit,
        provenance=provenance,
        mark=record,
        signer=signer,
        consent=consent,
        overwrite=overwrite,
    )


def free(path: Path, overwrite: bool = False, reads: Sequence[str | Path] = ()) -> None:
    """Refuse a path that must not be written; see `mien.io.outputs.check`.

    A record without its picture is left by a killed run, and may be replaced.

    Raises:
        OutputExists: the path exists, or the JSON beside it would replace a file that is not such a record.
        ConfigError: its folder does not exist.
    """
    outputs.check(path, overwrite=overwrite, reads=reads)
    beside = path.with_name(path.name + SIDECAR)
    if not os.path.lexists(beside):
        return
    try:
        record = json.loads(beside.read_bytes())
    except (OSError, ValueError, RecursionError):
        record = None
    if not isinstance(record, dict) or record.get("file", path.name) != path.name:
        raise OutputExists(
            f"{images.describe(beside)}: exists, and is not a record of an edit: move it away, or name another --out"
        )


def write_file(
    data: bytes,
    path: Path,
    edit: Edit,
    *,
    provenance: bool = True,
    mark: dict[str, Any] | None = None,
    signer: Signer | None = None,
    consent: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write an encoded picture, animation or video of `edit` with its provenance; see `write_edit`. `mark` is the
    record of `marked`; None for animations and videos, which have none."""
    free(path, overwrite)
    stated = facts(edit, consent, mark)
    if provenance:
        data = sign(data, path.suffix, stated, edit, signer or Signer.of_install())
    beside = path.with_name(path.name + SIDECAR)
    record = {
        **stated,
        "file": path.name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "original_sha256": hashlib.sha256(edit.original.data).hexdigest() if edit.original.data else None,
        "provenance_in_file": provenance,
        "written": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }
    # The record first: then an existing picture is whole and has its record, also after a kill.
    stated_as = (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode()
    try:
        atomic.write({beside: stated_as, path: data})
    except OSError as problem:
        reason = (problem.strerror or str(problem)).lower()
        raise ImageError(f"{images.describe(path)}: cannot be written: {reason}") from None
    return beside


def _c2pa() -> Any:
    try:
        import c2pa
    except ImportError:
        raise ExtraMissing("edit", "c2pa-python") from None
    return c2pa


def _offline(**verify: bool) -> Any:
    """A c2pa context that contacts no other machine: for remote manifests, revocations or identities."""
    c2pa = _c2pa()
    settings = {
        "core": {"allowed_network_hosts": []},  # newer c2pa; covers all its network requests
        "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False, **verify},
        "builder": {"thumbnail": {"enabled": False}},
    }
    return c2pa.Context(c2pa.Settings.from_dict(settings))


def sign(data: bytes, suffix: str, stated: dict[str, Any], edit: Edit, signer: Signer) -> bytes:
    """The picture file `data` with a C2PA manifest that states `stated`."""
    c2pa = _c2pa()
    mime = _MIME[suffix.lower()]
    manifest = {
        "claim_generator_info": [{"name": "mien", "version": __version__}],
        "title": "Edited expression",
        "format": mime,
        "assertions": [
            {
                "label": "c2pa.actions.v2",
                "data": {
                    "actions": [
                        {
                            "action": "c2pa.edited",
                            "digitalSourceType": SOURCE_TYPE,
                            "softwareAgent": {"name": "mien", "version": __version__},
                            "description": f"facial expression changed; asked for: {stated['target']}",
                            "parameters": {"org.mien.edit": stated},
                        }
                    ]
                },
            }
        ],
    }
    parent, parent_mime = edit.original.data, _media_type(edit.original.data)
    if parent_mime is None:  # an array, or a format that C2PA does not support: its pixels as PNG
        parent, parent_mime = encode(edit.original, ".png"), "image/png"
    info = c2pa.C2paSignerInfo(b"es256", signer.chain, signer.key, b"")
    info.ta_url = None
    result = BytesIO()
    try:
        with _offline(verify_trust=False) as context, c2pa.Builder(manifest, context=context) as builder:
            builder.set_intent(c2pa.C2paBuilderIntent.EDIT)
            builder.add_ingredient(
                {"title": "original", "relationship": "parentOf"}, parent_mime, BytesIO(parent)
            )
            with c2pa.Signer.from_info(info) as key:
                builder.sign(key, mime, BytesIO(data), result)
    except c2pa.C2paError as problem:
        why = _fault(signer.chain, signer.key) or str(problem).splitlines()[0]
        raise ProvenanceError(f"the manifest could not be signed ({why}): {signer.remedy}") from None
    return result.getvalue()


_MEDIA_TYPES: Final = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "TIFF": "image/tiff",
    "HEIF": "image/heic",
    "AVIF": "image/avif",
    "VIDEO": "video/mp4",
}
"""Media types that C2PA supports, by `mien.io.images.file_type`."""


def _media_type(data: bytes) -> str | None:
    return _MEDIA_TYPES.get(images.file_type(data) or "")


@dataclass(frozen=True)
class Verification:
    """The origin that a file states, and whether it is valid.

    Attributes:
        manifest: whether it holds a C2PA manifest.
        intact: the manifest's signature and hashes fit the file; False without a manifest.
        trusted: the signer is on this machine's C2PA trust list; False for keys that `mien` made.
        signer: the name on the certificate.
        edited: it states that it is an edit of a facial expression by `mien`.
        facts: the stated facts of the edit (see `facts`).
        source_type: IPTC digital source type found in the XMP, or "".
        sidecar: "fits", "does not fit", or "none": the JSON beside the file.
        problems: validation codes of the problems found.
        elsewhere: URL of the manifest if it is remote; it is not fetched.
        history: validation codes of problems in the manifests of its originals, recursively, when they were edited.
        unread: an original has a remote manifest, which was not fetched.
        mark: the invisible mark found in the pixels, or None.
        mark_score: its correlation, in standard deviations; see `mien.editing.mark.FoundMark`. None if the file is not
            a picture, in which case none was looked for.
    """

    manifest: bool
    intact: bool
    trusted: bool
    signer: str
    edited: bool
    facts: dict[str, Any]
    source_type: str
    sidecar: str
    problems: tuple[str, ...] = ()
    elsewhere: str = ""
    history: tuple[str, ...] = ()
    unread: bool = False
    mark: Mark | None = None
    mark_score: float | None = None

    @property
    def holds(self) -> bool:
        """Whether there are content credentials, and they and those of the originals are intact."""
        return self.manifest and self.intact and not self.history


def verify(path: Path) -> Verification:
    """Read what a file states about its origin, verify it, and look for the invisible mark in its pixels.

    Raises:
        ImageError: the file cannot be read.
        ExtraMissing: `c2pa-python` is not installed.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as problem:
        raise ImageError(f"{path}: cannot be read: {problem.strerror}") from None
    beside = path.with_name(path.name + SIDECAR)
    record: Any = {}
    if beside.exists():
        try:
            record = json.loads(beside.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            raise ImageError(f"{beside}: is not readable JSON: remove it, or restore the original one")
    fits = record.get("sha256") == hashlib.sha256(data).hexdigest()
    sidecar = "none" if not record else "fits" if fits else "does not fit"
    source_type = SOURCE_TYPE if SOURCE_TYPE.encode() in _xmp_of(data) else ""
    mark, score = _mark_in(data)
    store = _manifest_store(data)
    if not isinstance(store, dict):
        return Verification(
            False,
            False,
            False,
            "",
            bool(record),
            record,
            source_type,
            sidecar,
            elsewhere=store or "",
            mark=mark,
            mark_score=score,
        )
    active = store["manifests"][store["active_manifest"]]
    codes = tuple(dict.fromkeys(status["code"] for status in store.get("validation_status", [])))
    broken = tuple(code for code in codes if code != "signingCredential.untrusted")
    earlier = tuple(dict.fromkeys(_codes_of_originals(store)))
    stated: dict[str, Any] = {}
    for assertion in active.get("assertions", []):
        for action in assertion.get("data", {}).get("actions", []) if "actions" in assertion["label"] else []:
            stated = action.get("parameters", {}).get("org.mien.edit", stated)
    return Verification(
        manifest=True,
        intact=not broken,
        trusted="signingCredential.untrusted" not in codes and store.get("validation_state") == "Trusted",
        signer=str(active.get("signature_info", {}).get("issuer", "")),
        edited=bool(stated),
        facts=stated,
        source_type=source_type,
        sidecar=sidecar,
        problems=broken,
        history=tuple(code for code in earlier if code != _INACCESSIBLE),
        unread=_INACCESSIBLE in earlier,
        mark=mark,
        mark_score=score,
    )


def _mark_in(data: bytes) -> tuple[Mark | None, float | None]:
    """The mark in a picture file and its score; None for another file, or a damaged one."""
    if images.file_type(data) in (None, "VIDEO"):
        return None, None
    try:
        found = find(images.read(data))
    except ImageError:
        return None, None
    return found.mark, found.score


_INACCESSIBLE: Final = "manifest.inaccessible"


def _codes_of_originals(store: dict[str, Any]) -> Iterator[str]:
    """Problems of the originals when they were added, as signed in each manifest."""
    for manifest in store["manifests"].values():
        for original in manifest.get("ingredients", []):
            results = original.get("validation_results") or {}
            deltas = [delta.get("validationDeltas") or {} for delta in results.get("ingredientDeltas") or []]
            failures = [
                status
                for manifest in (results.get("activeManifest") or {}, *deltas)
                for status in manifest.get("failure") or []
            ]
            for status in (*failures, *(original.get("validation_status") or [])):
                if status.get("code") != "signingCredential.untrusted":
                    yield str(status.get("code"))


_REMOTE: Final = "must fetch remote manifests from url "


def _manifest_store(data: bytes) -> dict[str, Any] | str | None:
    """The C2PA manifest store of a file as read and validated by c2pa; None if there is none, and its URL if it is
    remote."""
    c2pa = _c2pa()
    mime = _media_type(data)
    if mime is None:
        return None
    try:
        with (
            _offline(verify_trust=True) as context,
            c2pa.Reader(mime, BytesIO(data), context=context) as reader,
        ):
            store: dict[str, Any] = json.loads(reader.json())
            return store
    except c2pa.C2paError as problem:
        if (
            "ManifestNotFound" in type(problem).__name__
            or "ManifestNotFound" in str(problem)
            or "no JUMBF" in str(problem)
        ):
            return None
        if _REMOTE in str(problem):
            return without_secrets(images.describe(str(problem).partition(_REMOTE)[2].strip()))
        raise ProvenanceError(f"the manifest cannot be read: {str(problem).splitlines()[0]}") from None


def _xmp_of(data: bytes) -> bytes:
    start = data.find(b"<x:xmpmeta")
    return data[start : data.find(b"</x:xmpmeta>", start)] if start >= 0 else b""
