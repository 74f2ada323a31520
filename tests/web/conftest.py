"""Stand-ins for what `mien web` brings together: an ONNX Runtime Web of a few bytes, and a folder of networks."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from mien.io import cards
from mien.web import runtime
from mien.web.site import NETWORKS


@dataclass(frozen=True)
class NpmPackage:
    """A package file as `npm pack` makes it, and the files in it that are used."""

    path: Path
    files: dict[str, bytes]


@pytest.fixture
def npm_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NpmPackage:
    """A small package whose hashes are the pinned ones for the length of the test."""
    files = {name: f"content of {name}".encode() * 40 for name in runtime.FILES}
    path = tmp_path / "onnxruntime-web.tgz"
    with tarfile.open(path, "w:gz") as package:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"package/dist/{name}")
            entry.size = len(content)
            package.addfile(entry, io.BytesIO(content))
    integrity = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    monkeypatch.setattr(runtime, "INTEGRITY", f"sha512-{integrity}")
    pins = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    monkeypatch.setattr(runtime, "FILES", pins)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return NpmPackage(path, files)


@pytest.fixture(scope="session")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the shipped networks; one that is not there is stood in for by bytes with a card."""
    folder = tmp_path_factory.mktemp("weights")
    for name in NETWORKS:
        shipped = cards.FOLDER / f"{name}.onnx"
        if shipped.is_file():
            shutil.copy(shipped, folder)
            shutil.copy(shipped.with_suffix(".json"), folder)
            continue
        content = f"the network {name}".encode()
        (folder / f"{name}.onnx").write_bytes(content)
        card = dict.fromkeys(cards.REQUIRED, "-") | {"sha256": hashlib.sha256(content).hexdigest()}
        (folder / f"{name}.json").write_text(json.dumps(card))
    return folder
