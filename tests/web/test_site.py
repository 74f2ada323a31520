"""The folder of the page and that of the npm package: complete, whole or not at all, and never over other files."""

from __future__ import annotations

import gzip
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mien import __version__
from mien.errors import ConfigError, OutputExists, WeightsError
from mien.web import site

from .conftest import NpmPackage


@pytest.fixture
def files(npm_package: NpmPackage, networks: Path) -> dict[str, bytes]:
    """The page's files."""
    return site.site(npm_package.files, networks)


class References(HTMLParser):
    """What a page refers to, and its elements' names."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.identifiers: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value and not value.startswith(("#", "data:")):
                self.found.append(value)
            if name == "id" and value:
                self.identifiers.append(value)


def test_whatever_the_page_refers_to_is_there(files: dict[str, bytes]) -> None:
    page = References(files["index.html"].decode())
    assert {name for name in page.found if name != "./"} <= files.keys()
    assert len(page.identifiers) == len(set(page.identifiers))
    for name, content in files.items():
        if not name.endswith(".js"):
            continue
        for other in re.findall(r'from "(\./[^"]+)"', content.decode()):
            assert (Path(name).parent / other).as_posix() in files, f"{name} imports {other}"


def test_the_page_asks_for_all_of_its_modules_at_once(files: dict[str, bytes]) -> None:
    html = files["index.html"].decode()
    asked = re.findall(r'<link rel="modulepreload" href="([^"]+)">', html)
    needed = {"api.js", "app.js"}
    for name in asked:
        imports = re.findall(r'(?:from|import) "(\./[^"]+)"', files[name].decode())
        needed |= {(Path(name).parent / other).as_posix() for other in imports}
    assert sorted(asked) == sorted(needed)
    # The networks are opened first, without waiting for the modules of the page.
    assert asked[:2] == ["api.js", "engine/analyser.js"]
    assert '<script type="module" src="api.js" async></script>' in html
    assert "engine/pipeline.js" not in asked


def test_modules_ask_only_for_elements_that_the_page_has(files: dict[str, bytes]) -> None:
    there = set(References(files["index.html"].decode()).identifiers)
    asked = {
        (name, found)
        for name, content in files.items()
        if name.endswith(".js") and "/" not in name
        for found in re.findall(r'\$\("([a-z-]+)"\)(?!\?)', content.decode())
    }
    optional = {("read.js", "read-edit")}  # where a page has the editor
    assert {(name, found) for name, found in asked - optional if found not in there} == set()
    assert len(asked) > 50


def test_the_page_has_nothing_that_needs_a_server(files: dict[str, bytes]) -> None:
    page = files["index.html"].decode()
    for word in ("<!--server", "openapi", "tab-edit", "<!--browser", "Choose by", "{policy}"):
        assert word not in page
    assert "never leave this device" in page
    assert "for each face. The photos do not leave this device; the table" in page
    assert "\n\n\n" not in page
    assert "http-equiv" in page
    assert "edit.js" not in files


def test_the_servers_page_has_nothing_of_the_browsers() -> None:
    page = References((site.PAGE / "index.html").read_text(encoding="utf-8"))
    assert {"manifest.webmanifest", "api.js"}.isdisjoint(page.found)
    assert "tab-edit" in page.identifiers
    assert "adapt-pick" not in page.identifiers


def test_the_runtime_is_packed(files: dict[str, bytes], npm_package: NpmPackage) -> None:
    packed = files["runtime/ort-wasm-simd-threaded.bin"]
    assert gzip.decompress(packed) == npm_package.files["ort-wasm-simd-threaded.wasm"]
    assert b"MIT License" in files["runtime/LICENSE.txt"]


def test_the_service_worker_knows_every_file_and_its_version_changes_with_any(
    files: dict[str, bytes], npm_package: NpmPackage, networks: Path
) -> None:
    def known(made: dict[str, bytes]) -> dict[str, object]:
        found = re.search(r"^const SITE = (\{.*\});$", made["sw.js"].decode(), re.MULTILINE)
        assert found is not None
        told: dict[str, object] = json.loads(found[1])
        return told

    first = known(files)
    assert first["files"] == ["./", *sorted(files.keys() - {"sw.js"})]
    assert known(site.site(npm_package.files, networks)) == first
    other = {**npm_package.files, "ort.wasm.min.mjs": b"changed"}
    assert known(site.site(other, networks))["version"] != first["version"]


def test_a_damaged_network_is_refused(npm_package: NpmPackage, networks: Path, tmp_path: Path) -> None:
    for path in networks.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "landmarks.onnx").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"landmarks.onnx: these are not the weights"):
        site.site(npm_package.files, tmp_path)


def test_the_package_has_its_version_its_types_and_the_same_modules(
    files: dict[str, bytes], npm_package: NpmPackage, networks: Path
) -> None:
    package = site.package(npm_package.files, networks)
    described = json.loads(package["package.json"])
    assert described["version"] == __version__
    for entry in described["exports"]["."].values():
        assert entry.removeprefix("./") in package
    shared = {name for name in package if name.startswith(("engine/", "weights/", "runtime/"))}
    assert shared == {name for name in files if name.startswith(("engine/", "weights/", "runtime/"))}
    assert all(package[name] == files[name] for name in shared)


def test_a_folder_is_written_once(files: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "out" / "site"
    site.write(out, files)
    assert {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()} == files.keys()
    assert all((out / name).read_bytes() == content for name, content in files.items())
    (out / "old.txt").write_text("of the version before")
    with pytest.raises(OutputExists, match=r"site: exists: pass --overwrite"):
        site.write(out, files)
    site.write(out, files, overwrite=True)
    assert not (out / "old.txt").exists()
    assert [path.name for path in out.parent.iterdir()] == ["site"]


def test_other_folders_are_left_alone(files: dict[str, bytes], tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(OutputExists, match=r"holds files that `mien web` did not write"):
        site.write(mine, files, overwrite=True)
    assert [path.name for path in mine.iterdir()] == ["photo.jpg"]
    with pytest.raises(ConfigError, match=r"photo.jpg: is a file"):
        site.write(mine / "photo.jpg", files)
    (tmp_path / "empty").mkdir()
    site.write(tmp_path / "empty", files)
    assert site.is_site(tmp_path / "empty")


def test_the_size_is_told_in_parts(files: dict[str, bytes]) -> None:
    told = site.size_of({"weights/a.onnx": bytes(3_000_000), "runtime/b": bytes(1_500_000), "c": b""})
    assert told == "3 files, 4.5 MB in all: networks 3.0 MB, ONNX Runtime Web 1.30.0 1.5 MB"
