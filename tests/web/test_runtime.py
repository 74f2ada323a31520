"""ONNX Runtime Web comes from where it is, and from the network only if asked to; other files than the pinned ones are
refused."""

from __future__ import annotations

import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mien.errors import ConfigError
from mien.web import runtime

from .conftest import NpmPackage


class Quiet(SimpleHTTPRequestHandler):
    """A registry that keeps quiet."""

    def log_message(self, *args: object) -> None:
        """Print nothing."""


@pytest.fixture
def registry(npm_package: NpmPackage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A registry on this machine that has the package."""
    place = tmp_path / "registry" / "onnxruntime-web" / "-" / f"onnxruntime-web-{runtime.VERSION}.tgz"
    place.parent.mkdir(parents=True)
    place.write_bytes(npm_package.path.read_bytes())
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "registry")))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"http://127.0.0.1:{server.server_address[1]}/")
    yield place
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_package_file_gives_the_files(npm_package: NpmPackage) -> None:
    assert runtime.bring(npm_package.path) == npm_package.files


def test_so_does_a_folder_with_the_package_or_with_the_files(npm_package: NpmPackage, tmp_path: Path) -> None:
    with tarfile.open(npm_package.path) as package:
        package.extractall(tmp_path / "unpacked", filter="data")
    assert runtime.bring(tmp_path / "unpacked" / "package") == npm_package.files
    assert runtime.bring(tmp_path / "unpacked" / "package" / "dist") == npm_package.files


def test_another_package_is_refused(npm_package: NpmPackage) -> None:
    npm_package.path.write_bytes(npm_package.path.read_bytes() + b"\0")
    with pytest.raises(ConfigError, match=r"onnxruntime-web.tgz: is not the package file .* npm pack"):
        runtime.bring(npm_package.path)


def test_so_is_a_changed_file_in_a_folder(npm_package: NpmPackage, tmp_path: Path) -> None:
    for name, content in npm_package.files.items():
        (tmp_path / name).write_bytes(content)
    changed = tmp_path / "ort-wasm-simd-threaded.wasm"
    changed.write_bytes(b"other")
    with pytest.raises(ConfigError, match=r"threaded.wasm: is not the file of onnxruntime-web"):
        runtime.bring(tmp_path)
    changed.unlink()
    with pytest.raises(ConfigError, match=r"threaded.wasm: cannot be read \(no such file"):
        runtime.bring(tmp_path)


def test_nothing_is_fetched_unless_asked_for(registry: Path) -> None:
    with pytest.raises(ConfigError, match=r"not on this machine: pass --download .* or --onnxruntime"):
        runtime.bring()


def test_what_was_fetched_is_kept(registry: Path, npm_package: NpmPackage) -> None:
    assert runtime.bring(download=True) == npm_package.files
    registry.unlink()
    assert runtime.bring() == npm_package.files
    assert runtime.bring(download=True) == npm_package.files


def test_a_registry_with_another_package_is_not_believed(registry: Path) -> None:
    registry.write_bytes(b"something else")
    with pytest.raises(ConfigError, match=r"127.0.0.1.*: is not the package file"):
        runtime.bring(download=True)
    folder = runtime.kept()
    assert folder is not None
    assert not folder.exists()


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "gopher://nowhere"])
def test_no_answer_is_one_clear_error(
    npm_package: NpmPackage, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", address)
    with pytest.raises(ConfigError, match=r"cannot be fetched|is no address of a registry"):
        runtime.bring(download=True)


def test_a_cache_folder_must_be_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    assert runtime.kept() == tmp_path / ".cache" / "mien" / f"onnxruntime-web-{runtime.VERSION}"
