"""Write the folder of the page that analyses in the browser, or that of the npm package.

The page's modules are those of `mien serve` where no server is needed. Its `index.html` is made of theirs: what only a
server's page has lies between `<!--server-->` and `<!--/server-->` and is left out, and what only this one has lies in
a comment that begins with `<!--browser` and is taken out of it.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Final

from mien import __version__
from mien.errors import ConfigError, OutputExists
from mien.io import atomic, cards
from mien.io.images import describe
from mien.web.runtime import VERSION
from mien.web.serving import POLICY
from mien.web.settings import settings

SOURCE: Final = Path(__file__).parent
PAGE: Final = SOURCE.parent / "server" / "static"
NETWORKS: Final = ("detector", "landmarks", "recogniser", "visibility", "actions")
SHARED: Final = (
    "actions.js", "batch.js", "camera.js", "dom.js", "draw.js", "drop.js", "live.js", "purpose.js", "read.js",
    "shell.js", "style.css", "favicon.svg",
)  # fmt: skip
"""What this page and that of `mien serve` have in common, besides `index.html` and the example pictures."""

PACKED: Final = "ort-wasm-simd-threaded.bin"
"""ONNX Runtime's program, compressed with gzip: a quarter of its size. The name has no suffix of a compressed file, for
which some servers would say that browsers are to unpack it."""

MARKER: Final = "engine/settings.json"
"""A file by which a folder that `write` made is known."""


def site(runtime: dict[str, bytes], weights: Path | None = None) -> dict[str, bytes]:
    """The files of the page by their path in the folder.

    Args:
        runtime: the files of `mien.web.runtime.bring`.
        weights: folder with the networks and their cards; None is that of the package.

    Raises:
        WeightsError: a network or its card is missing or damaged.
    """
    files = _engine(runtime, weights)
    for name in SHARED:
        files[name] = (PAGE / name).read_bytes()
    for path in sorted((PAGE / "examples").iterdir()):
        files[f"examples/{path.name}"] = path.read_bytes()
    for path in sorted((SOURCE / "static").iterdir()):
        files[path.name] = path.read_bytes()
    html = page((PAGE / "index.html").read_text(encoding="utf-8"))
    files["index.html"] = html.replace("{modules}", _preloads(files)).encode()
    files["sw.js"] = _service_worker(files)
    return files


def package(runtime: dict[str, bytes], weights: Path | None = None) -> dict[str, bytes]:
    """The files of the npm package by their path in the folder; arguments and errors as those of `site`."""
    files = _engine(runtime, weights)
    for path in sorted((SOURCE / "package").iterdir()):
        files[path.name] = path.read_bytes()
    described = json.loads(files["package.json"])
    files["package.json"] = (json.dumps({**described, "version": __version__}, indent=2) + "\n").encode()
    return files


def _engine(runtime: dict[str, bytes], weights: Path | None) -> dict[str, bytes]:
    files = {f"engine/{path.name}": path.read_bytes() for path in sorted((SOURCE / "engine").glob("*.js"))}
    files[MARKER] = (json.dumps(settings(), indent=1) + "\n").encode()
    for name in NETWORKS:
        content, card = cards.verified((weights or cards.FOLDER) / f"{name}.onnx")
        files[f"weights/{name}.onnx"], files[f"weights/{name}.json"] = content, card.path.read_bytes()
    for name, content in runtime.items():
        if name.endswith(".wasm"):
            files[f"runtime/{PACKED}"] = gzip.compress(content, 9, mtime=0)
        else:
            files[f"runtime/{name}"] = content
    files["runtime/LICENSE.txt"] = (SOURCE / "onnxruntime-licence.txt").read_bytes()
    return files


def page(html: str) -> str:
    """The page without what needs a server, and with what only the browser's page has."""
    html = html.replace("{policy}", POLICY)
    parts = re.DOTALL | re.MULTILINE
    kept = re.sub(
        r"^[ \t]*<!--server-->.*?<!--/server-->\n|<!--server-->.*?<!--/server-->", "", html, flags=parts
    )
    return re.sub(r"<!--browser\s(.*?)-->", lambda found: found[1].strip(), kept, flags=re.DOTALL)


def _preloads(files: dict[str, bytes]) -> str:
    """Links by which a browser asks for all of the page's modules at once, not for each when it has read what imports
    it; those first that open the networks."""
    found: list[str] = []
    waiting = ["api.js", "app.js"]
    while waiting:
        name = waiting.pop(0)
        if name not in found:
            found.append(name)
            others = re.findall(r'from "\./([^"]+)"', files[name].decode())
            waiting[:0] = [(Path(name).parent / other).as_posix() for other in others]
    return "\n".join(f'<link rel="modulepreload" href="{name}">' for name in found)


def _service_worker(files: dict[str, bytes]) -> bytes:
    """The service worker with the list of files, and a version that changes with any of them: browsers then take all of
    them again."""
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        digest.update(name.encode() + b"\0" + hashlib.sha256(content).digest())
    names = sorted(name for name in files if name != "sw.js")
    known = {"version": digest.hexdigest()[:16], "files": ["./", *names]}
    source = files["sw.js"].decode()
    made = source.replace('const SITE = { version: "", files: [] };', f"const SITE = {json.dumps(known)};")
    assert made != source
    return made.encode()


def is_site(folder: Path) -> bool:
    """Whether `mien web` wrote this folder, and the page into it."""
    return (folder / MARKER).is_file() and (folder / "index.html").is_file()


def write(folder: Path, files: dict[str, bytes], overwrite: bool = False) -> None:
    """Write the files into a new folder, all of them or none; `overwrite` replaces one that this function wrote.

    Raises:
        OutputExists: there is a folder with files, and it may not be replaced.
        ConfigError: there is a file of that name, or it cannot be written.
    """
    check(folder, overwrite)
    try:
        with atomic.folder(folder) as made:
            for name, content in files.items():
                path = made / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            if folder.exists():
                shutil.rmtree(folder)
    except OSError as problem:
        reason = (problem.strerror or str(problem)).lower()
        raise ConfigError(f"{describe(folder)}: cannot be written ({reason}): name another folder") from None


def check(folder: Path, overwrite: bool = False) -> None:
    """Refuse a folder that `write` would refuse, before anything is prepared; raises as it does."""
    name = describe(folder)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{name}: is a file: name a folder")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not (folder / MARKER).is_file():
        raise OutputExists(f"{name}: holds files that `mien web` did not write: name another folder")
    if not overwrite:
        raise OutputExists(f"{name}: exists: pass --overwrite to replace it, or name another folder")


def size_of(files: dict[str, bytes]) -> str:
    """How large the files are together, and the networks and ONNX Runtime of them, for people."""

    def megabytes(start: str, end: str = "") -> str:
        inside = [
            len(content) for name, content in files.items() if name.startswith(start) and name.endswith(end)
        ]
        return f"{sum(inside) / 1e6:.1f} MB"

    return (
        f"{len(files)} files, {megabytes('')} in all: networks {megabytes('weights/', '.onnx')}, "
        f"ONNX Runtime Web {VERSION} {megabytes('runtime/')}"
    )
