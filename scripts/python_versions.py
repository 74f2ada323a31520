"""Installs the core or an extra under every supported Python, or with its oldest declared versions, and runs its tests.

    python scripts/python_versions.py                      every supported Python found here, newest versions
    python scripts/python_versions.py --lowest             the oldest supported Python, oldest declared versions
    python scripts/python_versions.py --python 3.12        this one only
    python scripts/python_versions.py --lowest --extra serve --extra video    these extras' tests, each alone
    python scripts/python_versions.py --platforms          which platforms have wheels of the core; installs nothing

Without `--extra` the core is tried. `--extra all` means every extra in `EXTRAS`; `train` and `text` are not among them,
since their torch is a download of several GB: the pins of `constraints.txt` are what is tested of it.

An interpreter is looked for on the PATH (`python3.12`), then among pyenv's. One that is not there is skipped with a
line that says so; with `--strict` that is a failure. It needs `uv` (pip install uv), which resolves the oldest versions
and shares downloads between the environments. Exit code 0: everything that could be tried passed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SUPPORTED = ("3.10", "3.11", "3.12", "3.13", "3.14")
PLATFORMS = {
    "Linux, x86-64": "x86_64-manylinux_2_28",
    "Linux, ARM": "aarch64-manylinux_2_28",
    "macOS 14, Apple silicon": "aarch64-apple-darwin",
    "macOS 14, Intel": "x86_64-apple-darwin",
    "Windows, x86-64": "x86_64-pc-windows-msvc",
    "Windows, ARM": "aarch64-pc-windows-msvc",
}
"""The platforms that `--platforms` asks about, by uv's names."""
DEPENDENCIES = (
    "numpy",
    "pillow",
    "opencv-python-headless",
    "onnxruntime",
    "pydantic",
    "pydantic-core",
    "pyyaml",
)
"""Packages with compiled parts, which need a wheel for each platform."""
TOOLS = ("pytest>=8.2", "hypothesis>=6.110", "onnx>=1.17")
"""What the core's tests need besides the core; `onnx` writes the small network they share."""
CORE = (
    "test_labels.py",
    "test_types.py",
    "test_config.py",
    "io/test_images.py",
    "faces/test_align.py",
    "faces/test_detect.py",
    "faces/test_landmarker.py",
    "faces/test_recognise.py",
    "faces/test_pipeline.py",
    "io/test_tables.py",
    "cli/test_predict.py",
    "test_bad_input.py",
)
EXTRAS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "parquet": ((), ("io/test_tables.py", "data/test_readers.py")),
    "figures": ((), ("figures",)),
    "heic": ((), ("io/test_images.py",)),
    "edit": ((), ("editing/test_editor.py", "editing/test_editing.py")),
    # An edited picture is signed, for which the server needs what the extra edit needs.
    "serve": (
        (
            "c2pa-python>=0.32",
            "cryptography>=42",
            "httpx>=0.27",
            "httpx2>=2.0",
            "openapi-spec-validator>=0.7",
        ),
        ("server",),
    ),
    # Its tests run a server.
    "client": (
        (
            "c2pa-python>=0.32",
            "cryptography>=42",
            "fastapi>=0.135",
            "uvicorn>=0.32",
            "python-multipart>=0.0.20",
            "prometheus-client>=0.21",
            "jinja2>=3.1",
        ),
        ("test_client.py",),
    ),
    "video": (("scipy>=1.13",), ("video",)),
    "batch": ((), ("batch/test_batch.py",)),
}
"""Of each extra: what its tests need besides, and its tests. What needs yet another extra skips itself."""


def interpreter(version: str) -> str | None:
    """The path of this Python, on the PATH or among pyenv's; None where there is none."""
    candidates = [shutil.which(f"python{version}")]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates += [str(path / "bin" / "python") for path in sorted(pyenv.glob(f"{version}.*"), reverse=True)]
    for candidate in candidates:
        if candidate is None or not Path(candidate).exists():
            continue
        asked = [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        told = subprocess.run(asked, capture_output=True, text=True, check=False)
        if told.stdout.strip() == version:  # a pyenv shim exists for versions that are not there
            return candidate
    return None


def tried(python: str, version: str, lowest: bool, extra: str | None, folder: Path) -> bool:
    """Make an environment, install the core or an extra, test; True when all of it worked."""
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    place = folder / f"{version}-{extra or 'core'}{'-lowest' if lowest else ''}"
    tools, tests = EXTRAS[extra] if extra else ((), CORE)
    inside = place / ("Scripts" if os.name == "nt" else "bin") / "python"
    resolution = "lowest-direct" if lowest else "highest"
    wanted = f"{ROOT}[{extra or 'parquet'}]"
    # The tools are not declared dependencies of the core, so they come in newest form, afterwards.
    steps = [
        [uv, "venv", "--quiet", "--python", python, str(place)],
        [uv, "pip", "install", "--quiet", "--python", str(inside), "--resolution", resolution, wanted],
        [uv, "pip", "install", "--quiet", "--python", str(inside), *TOOLS, *tools],
        [uv, "pip", "list", "--python", str(inside), "--format", "freeze"],
        [
            str(inside), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "default",
            *(str(ROOT / "tests" / name) for name in tests),
        ],
    ]  # fmt: skip
    for step in steps:
        code = subprocess.run(step, cwd=ROOT, check=False).returncode
        if code != 0:
            print(f"failed ({code}): {' '.join(step)}", flush=True)
            return False
    return True


def missing(platform: str, version: str) -> str:
    """What the core misses on a platform under a Python, "" for nothing: every dependency must have a wheel there."""
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    command = [uv, "pip", "compile", "--quiet", str(ROOT / "pyproject.toml"), "--only-binary", ":all:"]
    command += ["--python-platform", platform, "--python-version", version]
    # Newer wheels are for macOS 14 and later; uv assumes an older one otherwise.
    target = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": "14.0"}
    done = subprocess.run(command, cwd=ROOT, env=target, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ""
    named = re.findall(r"[a-z][\w-]+", done.stderr)
    names = [name for name in named if name in DEPENDENCIES]
    return f"no wheel of {names[0]}" if names else done.stderr.strip().replace("\n", " ")[:200]


def show_platforms(versions: Sequence[str]) -> int:
    """Print which platforms can install the core; the number that cannot."""
    bad = 0
    for title, platform in PLATFORMS.items():
        without = {version: missing(platform, version) for version in versions}
        bad += any(without.values())
        good = [version for version, what in without.items() if not what]
        told = [f"Python {', '.join(good)}: all there"] if good else []
        told += [f"Python {version}: {what}" for version, what in without.items() if what]
        print(f"{title}: {'; '.join(told)}", flush=True)
    return bad


def main() -> None:
    parser = argparse.ArgumentParser(description="Try the core or extras under every supported Python.")
    parser.add_argument("--python", action="append", help="a version, such as 3.12; may be repeated")
    parser.add_argument(
        "--lowest", action="store_true", help="the oldest declared version of each dependency"
    )
    parser.add_argument(
        "--extra", action="append", choices=[*EXTRAS, "all"], help="an extra; may be repeated"
    )
    parser.add_argument("--platforms", action="store_true", help="which platforms have wheels of the core")
    parser.add_argument("--strict", action="store_true", help="a missing interpreter is a failure")
    asked = parser.parse_args()
    if asked.platforms:
        bad = show_platforms(asked.python or SUPPORTED)
        sys.exit(asked.strict and bad > 0)
    versions = asked.python or ((SUPPORTED[0],) if asked.lowest else SUPPORTED)
    extras: list[str | None] = [None]
    if asked.extra:
        extras = list(EXTRAS) if "all" in asked.extra else asked.extra
    told: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="mien-pythons-") as folder:
        for version in versions:
            python = interpreter(version)
            if python is None:
                told[version] = "skipped: no such interpreter on the PATH or among pyenv's"
                continue
            for extra in extras:
                start = time.monotonic()
                passed = tried(python, version, asked.lowest, extra, Path(folder))
                name = f"{version}, {extra or 'core'}"
                told[name] = f"{'passed' if passed else 'FAILED'} in {time.monotonic() - start:.0f} s"
    for name, outcome in told.items():
        print(f"Python {name}{', oldest versions' if asked.lowest else ''}: {outcome}")
    bad = ("FAILED", "skipped") if asked.strict else ("FAILED",)
    sys.exit(any(outcome.startswith(bad) for outcome in told.values()))


if __name__ == "__main__":
    main()
