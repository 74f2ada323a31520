"""`mien web`: writes the folder, and says what is missing before it writes anything."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mien.cli.main import app
from mien.errors import ConfigError, OutputExists
from mien.io import cards
from mien.web import serving, site

from .conftest import NpmPackage


@pytest.fixture(autouse=True)
def shipped(networks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards, "FOLDER", networks)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["web", *map(str, arguments)], catch_exceptions=True)


def test_it_writes_the_page_and_the_package(npm_package: NpmPackage, tmp_path: Path) -> None:
    done = run(tmp_path / "site", "--onnxruntime", npm_package.path)
    assert done.exit_code == 0, done.output
    assert f"ONNX Runtime Web {site.VERSION}" in done.output
    assert done.output.rstrip().endswith("site")
    assert (tmp_path / "site" / "index.html").is_file()
    assert run(tmp_path / "npm", "--package", "--onnxruntime", npm_package.path).exit_code == 0
    assert (tmp_path / "npm" / "package.json").is_file()
    assert not (tmp_path / "npm" / "index.html").exists()


def test_it_replaces_only_what_it_wrote_and_only_if_told(npm_package: NpmPackage, tmp_path: Path) -> None:
    out = tmp_path / "site"
    given = (out, "--onnxruntime", npm_package.path)
    run(*given)
    assert isinstance(run(*given).exception, OutputExists)
    assert run(*given, "--overwrite").exit_code == 0


def test_what_is_missing_is_said_before_anything_is_written(npm_package: NpmPackage, tmp_path: Path) -> None:
    refused = run(tmp_path / "site")
    assert isinstance(refused.exception, ConfigError)
    assert "--download" in str(refused.exception)
    assert not (tmp_path / "site").exists()
    assert isinstance(run(tmp_path / "npm", "--package", "--serve").exception, ConfigError)
    run(tmp_path / "npm", "--package", "--onnxruntime", npm_package.path)
    assert isinstance(run(tmp_path / "npm", "--serve").exception, OutputExists), "a package is no page"


def test_it_serves_what_it_wrote_before(
    npm_package: NpmPackage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[Path] = []

    class Stopped:
        """A server that Ctrl-C ends at once."""

        server_address = ("127.0.0.1", 8123)

        def __init__(self, folder: Path, port: int) -> None:
            served.append(folder)

        def __enter__(self) -> Stopped:
            return self

        def __exit__(self, *args: object) -> None:
            """Nothing to close."""

        def serve_forever(self) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr(serving, "server", Stopped)
    out = tmp_path / "site"
    assert run(out, "--onnxruntime", npm_package.path, "--serve").exit_code == 0
    shutil.rmtree(out / "examples")
    done = run(out, "--serve")
    assert done.exit_code == 0, done.output
    assert "running on http://127.0.0.1:8123/" in done.output
    assert served == [out, out]
    assert not (out / "examples").exists(), "it was served as it is"
