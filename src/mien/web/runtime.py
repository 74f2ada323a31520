"""ONNX Runtime Web, which runs the networks in browsers: three files of the npm package `onnxruntime-web` (MIT).

They are not part of this package. `bring` takes them from the folder that keeps them, from the user's copy of the npm
package, or, only if asked to, from the npm registry. Wherever they come from, their hashes are those pinned here.
"""

from __future__ import annotations

import base64
import hashlib
import os
import tarfile
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Final
from urllib.error import URLError
from urllib.request import urlopen

from mien.errors import ConfigError
from mien.io import atomic

VERSION: Final = "1.30.0"
INTEGRITY: Final = (
    "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
)
"""The registry's integrity of the package file of this version."""

FILES: Final = {
    "ort.wasm.min.mjs": "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b",
    "ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
"""SHA-256 of each file that is used: the build for WebAssembly alone, the smallest of the package."""

REGISTRY: Final = "https://registry.npmjs.org"

_SECONDS: Final = 60
"""Time limit for each answer of the registry."""


def bring(given: Path | None = None, download: bool = False) -> dict[str, bytes]:
    """The files of `FILES` by name.

    Args:
        given: the package file of `npm pack`, or a folder with the package or with the files; None looks into the
            folder that keeps them.
        download: fetch them from the npm registry if they are not kept yet; the environment variable
            `NPM_CONFIG_REGISTRY` names another one.

    Raises:
        ConfigError: they are not there, cannot be fetched, or are not those of `VERSION`.
    """
    if given is not None:
        return _from_folder(given) if given.is_dir() else _from_package(_read(given), str(given))
    folder = kept()
    if folder is not None and folder.is_dir():
        return _from_folder(folder)
    if not download:
        raise ConfigError(
            f"ONNX Runtime Web {VERSION} is not on this machine: pass --download to fetch it once from the npm "
            f"registry (33 MB), or --onnxruntime with the file that  npm pack onnxruntime-web@{VERSION}  makes"
        )
    files = _from_package(*_fetched())
    if folder is not None:
        with suppress(OSError), atomic.folder(folder) as made:  # without it the next call fetches again
            for name, content in files.items():
                (made / name).write_bytes(content)
    return files


def kept() -> Path | None:
    """The folder that keeps the files of this version for this user; None without a home folder."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not given.is_absolute():
        try:
            given = Path.home() / ".cache"
        except RuntimeError:  # neither HOME nor an entry in the user database
            return None
    return given / "mien" / f"onnxruntime-web-{VERSION}"


def _fetched() -> tuple[bytes, str]:
    registry = os.environ.get("NPM_CONFIG_REGISTRY") or REGISTRY
    address = f"{registry.rstrip('/')}/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
    if not address.startswith(("https://", "http://")):
        raise ConfigError(f"NPM_CONFIG_REGISTRY: '{registry}' is no address of a registry: unset it")
    try:
        with urlopen(address, timeout=_SECONDS) as answer:
            return answer.read(), address
    except (URLError, OSError, ValueError) as problem:
        reason = str(getattr(problem, "reason", problem)).lower()
        raise ConfigError(
            f"{address}: cannot be fetched ({reason}): get onnxruntime-web-{VERSION}.tgz on another machine, and pass "
            "it with --onnxruntime"
        ) from None


def _from_package(content: bytes, where: str) -> dict[str, bytes]:
    """The files in a package file of npm, which must have the pinned integrity."""
    digest = base64.b64encode(hashlib.sha512(content).digest()).decode("ascii")
    if f"sha512-{digest}" != INTEGRITY:
        raise ConfigError(
            f"{where}: is not the package file of onnxruntime-web {VERSION}: make it with  npm pack "
            f"onnxruntime-web@{VERSION}"
        )
    with tarfile.open(fileobj=BytesIO(content), mode="r:gz") as package:
        parts = {name: package.extractfile(f"package/dist/{name}") for name in FILES}
        return {name: part.read() for name, part in parts.items() if part is not None}


def _from_folder(folder: Path) -> dict[str, bytes]:
    dist = folder / "dist" if (folder / "dist").is_dir() else folder
    files = {name: _read(dist / name) for name in FILES}
    for name, content in files.items():
        if hashlib.sha256(content).hexdigest() != FILES[name]:
            raise ConfigError(
                f"{dist / name}: is not the file of onnxruntime-web {VERSION}: remove the folder, or pass "
                "--onnxruntime with a copy of this version"
            )
    return files


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise ConfigError(
            f"{path}: cannot be read ({(problem.strerror or str(problem)).lower()}): pass --onnxruntime with the file "
            f"that  npm pack onnxruntime-web@{VERSION}  makes"
        ) from None
