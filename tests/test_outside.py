"""What leaves the machine, and what is left on it: every command speaks with nobody and writes what was asked for.

Each command runs in a process of its own with an empty home folder, an empty folder for temporary files and an empty
working folder. Under strace, where that may be used, the system itself says which addresses that process and its
children turned to and which files they made, whatever library or language does it. Elsewhere an audit hook in each of
its Python processes does; it does not see what libraries do by themselves, and the test's report says which of the
two watched.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import typer
import yaml

from mien.cli.main import app
from mien.data.synthetic import drawings
from mien.io import images

ROOT = Path(__file__).parent.parent
PORTRAIT = ROOT / "examples" / "portrait_neutral.jpg"

AUDIT = """
import os, sys
def _watch(event, given):
    line = None
    if event in ("socket.connect", "socket.bind", "socket.sendto") and isinstance(given[1], tuple):
        line = f"inet {given[1][0]} {given[1][1]}"
    elif event == "socket.getaddrinfo":
        line = f"name {given[0]}"
    elif event == "open" and isinstance(given[0], (str, bytes)) and isinstance(given[2], int):
        if given[2] & (os.O_CREAT | os.O_WRONLY | os.O_RDWR):
            line = f"file {os.path.abspath(os.fsdecode(given[0]))}"
    elif event == "os.mkdir":
        line = f"file {os.path.abspath(os.fsdecode(given[0]))}"
    if line is not None:
        os.write(_log, (line + "\\n").encode("utf-8", "replace"))
_log = os.open(os.environ["MIEN_TEST_AUDIT"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
sys.addaudithook(_watch)
"""
"""`sitecustomize.py` of the watched processes where there is no strace."""

OWN_FOLDERS = ("/dev/", "/proc/", "/sys/")
"""Files below these are devices and the system's own."""


@cache
def strace() -> bool:
    """Whether strace is here and may watch."""
    tool = shutil.which("strace")
    return (
        tool is not None and not subprocess.run([tool, "-f", "-qq", "true"], capture_output=True).returncode
    )


@dataclass
class Watched:
    """One watched command line after another, in the same folders."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)
    """Files and folders, relative to the working folder, that commands were asked to write."""
    cache: Path | None = None
    """A folder elsewhere that a configuration names for crops."""

    def __post_init__(self) -> None:
        for name in ("home", "tmp", "cwd"):
            (self.folder / name).mkdir(parents=True)

    @property
    def cwd(self) -> Path:
        """The working folder."""
        return self.folder / "cwd"

    def begin(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Start `mien` with these arguments, watched."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("XDG_", "MPL", "ORT_", "RAY_", "HF_", "TORCH", "MIEN_", "PYTEST"))
        }
        environment = {
            **kept,
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "tmp"),
            "PYTHONDONTWRITEBYTECODE": "1",
            **self.environment,
        }
        command = [sys.executable, "-m", "mien", *map(str, arguments)]
        if strace():
            calls = "trace=%network,open,openat,openat2,creat,mkdir,mkdirat"
            log = str(self.folder / "strace")
            command = ["strace", "-f", "-qq", "-A", "-s", "256", "-e", calls, "-o", log, *command]
        else:
            (self.folder / "audit").mkdir(exist_ok=True)
            (self.folder / "audit" / "sitecustomize.py").write_text(AUDIT)
            paths = [str(self.folder / "audit"), environment.get("PYTHONPATH", "")]
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
            environment["MIEN_TEST_AUDIT"] = str(self.folder / "audited")
        return subprocess.Popen(
            command,
            cwd=self.cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str | Path, code: int = 0) -> str:
        """Run `mien` to its end and return what it printed."""
        process = self.begin(*arguments)
        out, err = process.communicate(timeout=540)
        assert process.returncode == code, f"mien {' '.join(map(str, arguments))}: {err[-2000:]}"
        return out

    def outside(self) -> set[str]:
        """Everything that should not have happened, in words."""
        found = set(self._strangers())
        found |= {f"left in the home folder: {name}" for name in _files(self.folder / "home")}
        found |= {f"left among temporary files: {name}" for name in _files(self.folder / "tmp")}
        made = {Path(name).parts[0] for name in _files(self.cwd)}
        return found | {f"not asked for: {name}" for name in made - self.asked}

    def _strangers(self) -> Iterator[str]:
        for kind, *words in self._events():
            if kind == "inet" and (not _loopback(words[0]) or words[1] == "53"):
                yield f"turned to {words[0]} port {words[1]}"
            elif kind == "name" and words[0] not in ("localhost", "127.0.0.1", "::1", "None"):
                yield f"looked up {words[0]}"
            elif kind == "file":
                path = " ".join(words)
                inside = (*OWN_FOLDERS, str(self.folder), *([str(self.cache)] if self.cache else []))
                if not path.startswith(inside):
                    yield f"wrote {path}"

    def _events(self) -> Iterator[list[str]]:
        if not strace():
            for line in (self.folder / "audited").read_text(encoding="utf-8").splitlines():
                yield line.split(" ")
            return
        address = re.compile(r'sin6?_port=htons\((\d+)\).*?(?:inet_addr\(|inet_pton\(AF_INET6, )"([^"]+)"')
        path = re.compile(r'(?:open\w*|creat|mkdir\w*)\((?:[^"]*, )?"((?:[^"\\]|\\.)*)"')
        for line in (self.folder / "strace").read_text(encoding="utf-8", errors="replace").splitlines():
            if re.search(r"\b(?:connect|bind|send\w+)\(", line) and (met := address.search(line)):
                yield ["inet", met[2], met[1]]
            elif (
                (met := path.search(line))
                and "= -1" not in line
                and re.search(r"mkdir|creat\(|O_CREAT|O_WRONLY|O_RDWR", line)
                and met[1].startswith(
                    "/"
                )  # what is relative lies in the working folder, or in one opened before
            ):
                yield ["file", met[1]]


def _loopback(address: str) -> bool:
    return address.startswith("127.") or address in ("::1", "::ffff:127.0.0.1")


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


# One function a command. Each runs its command on something small, and says what it was asked to write.


@dataclass(frozen=True)
class Things:
    """What commands work on, made once: drawn faces, a configuration, two runs that were trained on them."""

    faces: Path
    config: Path
    runs: tuple[Path, Path]


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> Things:
    pytest.importorskip("torch")
    from mien.data.readers import manifest
    from mien.evaluation.validation import validate
    from mien.training import loop
    from mien.training.config import RunConfig

    faces = tmp_path_factory.mktemp("faces")
    records = drawings.records(faces, 80, size=48)
    manifest.write(records, faces / "manifest.csv")
    np.savez(
        faces / "points.npz",
        names=np.array([record.name for record in records]),
        points=np.stack([face.landmarks for face in drawings.faces(80, size=48)]).astype(np.float32),
    )
    tree = {
        "name": "drawn",
        "method": {"name": "baseline", "backbone": "tiny"},
        "data": {
            "reader": "manifest",
            "root": str(faces),
            "size": 32,
            "cache": "cache",
            "points": str(faces / "points.npz"),
        },
        "epochs": 1,
        "batch": 16,
        "threads": 1,
    }
    config = faces / "run.yaml"
    config.write_text(yaml.safe_dump(tree))
    data = {**tree["data"], "cache": str(faces / "cache")}
    runs = [
        loop.run(RunConfig(**{**tree, "seed": seed, "data": data, "runs": faces / "runs"}), validate)
        for seed in (0, 1)
    ]
    return Things(faces, config, (runs[0], runs[1]))


def _of(things: Things) -> tuple[str | Path, ...]:
    return (things.faces, "--reader", "manifest", "--points", things.faces / "points.npz")


Case = Callable[[Watched, Things], None]
FAST: dict[str, Callable[[Watched], None]] = {}
SLOW: dict[str, Case] = {}


def fast(name: str) -> Callable[[Callable[[Watched], None]], Callable[[Watched], None]]:
    """Register the case of a command that every run of the tests tries."""
    return lambda case: FAST.setdefault(name, case)


def slow(name: str) -> Callable[[Case], Case]:
    """Register the case of a command that trains, draws or starts more than itself."""
    return lambda case: SLOW.setdefault(name, case)


@fast("predict")
def _(watched: Watched) -> None:
    watched.asked = {"table.csv", "table.csv.mien.json", "table.parquet", "marked", "page.html"}
    watched.run("predict", PORTRAIT, "--out", "table.csv", "--annotate", "marked", "--report", "page.html")
    watched.run("predict", PORTRAIT, "--out", "table.parquet", "--tiled")


@fast("edit")
def _(watched: Watched) -> None:
    watched.asked = {"a.png", "a.png.mien.json"}
    watched.run("edit", PORTRAIT, "--to", "happiness", "--out", "a.png", "--no-provenance")


@fast("verify")
def _(watched: Watched) -> None:
    # A key of its own is the one thing that an edit may leave in the configuration folder.
    watched.environment["XDG_CONFIG_HOME"] = str(watched.cwd / "config")
    watched.asked = {"a.jpg", "a.jpg.mien.json", "config"}
    watched.run("edit", PORTRAIT, "--to", "anger", "--out", "a.jpg")
    assert "intact" in watched.run("verify", "a.jpg")
    assert _files(watched.cwd / "config") == ["mien/signing/chain.pem", "mien/signing/key.pem"]


@fast("serve")
def _(watched: Watched) -> None:
    watched.environment["XDG_CONFIG_HOME"] = str(watched.cwd / "config")
    watched.asked = {"config"}
    process = watched.begin("serve", "--port", "0")
    assert process.stderr is not None
    try:
        place = next(
            met[1] for line in process.stderr if (met := re.search(r"running on (http://\S+)", line))
        )
        picture = {"file": PORTRAIT.read_bytes()}
        with httpx2.Client(base_url=place, timeout=60) as client:
            until = time.monotonic() + 60
            while client.get("/ready").status_code != 200 and time.monotonic() < until:
                time.sleep(0.2)
            assert client.get("/").status_code == 200
            assert client.post("/v1/analyses", files=picture).status_code == 200
            edited = client.post("/v1/edits", files=picture, data={"target": "happiness"})
            assert edited.status_code == 200, edited.text
    finally:
        _ended(process)


@fast("web")
def _(watched: Watched) -> None:
    # ONNX Runtime Web is not on this machine: nothing is fetched unasked, and nothing is written without it.
    watched.run("web", "site", code=2)
    watched.environment["NPM_CONFIG_REGISTRY"] = "http://127.0.0.1:9"
    watched.run("web", "site", "--download", code=2)


def _ended(process: subprocess.Popen[str]) -> None:
    """Ask mien, not the strace around it, to end, as Ctrl-C would."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    inner = int(children.read_text().split()[0]) if strace() else process.pid
    os.kill(inner, signal.SIGINT)
    process.communicate(timeout=60)


@fast("methods")
def _(watched: Watched) -> None:
    watched.run("methods")
    watched.run("methods", "--json")


@fast("adapt")
def _(watched: Watched) -> None:
    watched.asked = {"desk.json"}
    for name in ("left", "right"):
        folder = watched.folder / "labelled" / name
        folder.mkdir(parents=True)
        for number in range(2):
            shutil.copy(PORTRAIT, folder / f"{number}.png")
    watched.run("adapt", watched.folder / "labelled", "--out", "desk.json")


@fast("columns")
def _(watched: Watched) -> None:
    watched.run("columns")


@fast("completion")
def _(watched: Watched) -> None:
    watched.run("completion", "bash")


@fast("doctor")
def _(watched: Watched) -> None:
    watched.run("doctor")
    watched.run("doctor", "--json")


@fast("licences")
def _(watched: Watched) -> None:
    watched.run("licences")


@fast("data list")
def _(watched: Watched) -> None:
    watched.run("data", "list")


@slow("video")
def _(watched: Watched, things: Things) -> None:
    av = pytest.importorskip("av")
    clip = things.faces / "clip.mp4"
    picture = images.read(PORTRAIT)[:448, :448]
    with av.open(str(clip), "w") as file:
        stream = file.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 448
        for step in range(8):
            file.mux(
                stream.encode(av.VideoFrame.from_ndarray(np.roll(picture, step, axis=1), format="rgb24"))
            )
        file.mux(stream.encode())
    watched.asked = {
        "table.csv",
        "table.csv.mien.json",
        "marked.mp4",
        "page.html",
        "edited.mp4",
        "edited.mp4.mien.json",
        "config",
    }
    watched.run("video", clip, "--out", "table.csv", "--annotate", "marked.mp4", "--page", "page.html")
    watched.environment["XDG_CONFIG_HOME"] = str(watched.cwd / "config")
    watched.run("edit", clip, "--to", "happiness", "--out", "edited.mp4", "--force")


@slow("live")
def _(watched: Watched, things: Things) -> None:
    watched.run("live", "--camera", "63", "--seconds", "1", code=2)  # there is none


@slow("train")
def _(watched: Watched, things: Things) -> None:
    watched.asked = {"runs", "cache"}
    watched.run("train", things.config)


@slow("runs")
def _(watched: Watched, things: Things) -> None:
    watched.asked = {"curves.png", "curves.svg"}
    watched.run("runs", things.runs[0].parent, "--curves", "curves.png")


@slow("sweep")
def _(watched: Watched, things: Things) -> None:
    watched.asked = {"out", "cache"}
    tree = {
        "base": str(things.config),
        "arms": {"plain": None, "fast": {"optim.rate": 0.01}},
        "workers": 2,
        "out": "out",
    }
    config = things.faces / "sweep.yaml"
    config.write_text(yaml.safe_dump(tree, sort_keys=False))
    watched.run("sweep", config, "--draws", "20")


@slow("ablate")
def _(watched: Watched, things: Things) -> None:
    watched.asked = {"runs", "cache", "out"}
    method = ("--set", "method.name=ke2nt", "--set", "method.contrast_weight=0.1")
    one = ("--rungs", "linear,random", "--seeds", "0", "--draws", "20", "--out", "out")
    watched.run("ablate", "ke2nt", "--config", things.config, *method, *one)


@slow("release")
def _(watched: Watched, things: Things) -> None:
    from mien.io import cards

    source = {"reader": "manifest", "root": str(things.faces)}
    tree = {
        "name": "drawn",
        "run": str(things.runs[0]),
        "elsewhere": [source],
        "card": dict.fromkeys(cards.REQUIRED, "stated"),
    }
    config = things.faces / "release.yaml"
    config.write_text(yaml.safe_dump(tree))
    watched.asked, watched.cache = {"release", "cache"}, things.faces / "cache"
    watched.run("release", config)


@slow("evaluate")
def _(watched: Watched, things: Things) -> None:
    watched.asked = {"out", "shipped", "cache"}
    watched.run("evaluate", things.runs[0], *_of(things), "--out", "out", "--draws", "20")
    watched.run("evaluate", "shipped", *_of(things), "--out", "shipped", "--draws", "20")


@slow("evaluate-edits")
def _(watched: Watched, things: Things) -> None:
    # Its judges are other people's networks; without them it can only say so.
    watched.run("evaluate-edits", "--judge", "none.hdf5", "--identity", "none.pt", code=2)


@slow("compare")
def _(watched: Watched, things: Things) -> None:
    watched.asked = {"out", "a", "b", "cache"}
    for run, name in zip(things.runs, "ab", strict=True):
        watched.run("evaluate", run, *_of(things), "--out", name, "--draws", "20")
    watched.run("compare", "a", "b", "--out", "out", "--draws", "20")


@slow("figures")
def _(watched: Watched, things: Things) -> None:
    watched.asked = {"figures", "cache"}
    watched.run("figures", things.runs[0], *_of(things))


@slow("batch")
def _(watched: Watched, things: Things) -> None:
    pytest.importorskip("ray")
    folder = things.faces / "pictures"
    folder.mkdir()
    shutil.copy(PORTRAIT, folder)
    watched.asked = {"table"}
    watched.run("batch", folder, "--out", "table", "--workers", "1")


@slow("data check")
def _(watched: Watched, things: Things) -> None:
    watched.asked = {"manifest.csv"}
    watched.run("data", "check", things.faces, "--faces", "--manifest", "manifest.csv")


@slow("data show")
def _(watched: Watched, things: Things) -> None:
    watched.asked = {"sheet.png"}
    watched.run("data", "show", things.faces, "--out", "sheet.png")


@slow("data render")
def _(watched: Watched, things: Things) -> None:
    # Its head model is somebody else's; without it, it can only say so.
    watched.run("data", "render", "none.npz", "set", code=2)


def verbs() -> list[str]:
    """Every command of `mien`, and every one below it."""
    context = typer.Context(typer.main.get_command(app))
    found = []
    for name in context.command.list_commands(context):  # type: ignore[attr-defined]
        command: Any = context.command.get_command(context, name)  # type: ignore[attr-defined]
        found += [f"{name} {below}" for below in command.commands] if hasattr(command, "commands") else [name]
    return found


def test_every_command_has_its_case() -> None:
    assert sorted(verbs()) == sorted([*FAST, *SLOW])


def _told(watched: Watched, record_property: Callable[[str, object], None]) -> None:
    record_property("watched by", "strace" if strace() else "an audit hook in Python")
    assert watched.outside() == set(), f"watched by {'strace' if strace() else 'an audit hook in Python'}"


@pytest.fixture
def watched() -> Iterator[Watched]:
    # Not below pytest's own folder: its name is too long for the sockets that Ray makes.
    with tempfile.TemporaryDirectory(prefix="w-") as folder:
        yield Watched(Path(folder))


@pytest.mark.parametrize("name", FAST)
def test_it_speaks_with_nobody_and_leaves_nothing(
    name: str, watched: Watched, record_property: Callable[[str, object], None]
) -> None:
    FAST[name](watched)
    _told(watched, record_property)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_it_speaks_with_nobody_and_leaves_nothing_however_long_it_takes(
    name: str, watched: Watched, things: Things, record_property: Callable[[str, object], None]
) -> None:
    SLOW[name](watched, things)
    _told(watched, record_property)


# ONNX Runtime reports its use unless told not to before its first import.


def python(script: str, home: Path, **more: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "ORT_"))}
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**kept, "HOME": str(home), **more},
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.mark.parametrize("module", ["mien", "mien.cli.main", "mien.io.onnx", "mien.batch.worker"])
def test_onnx_runtime_keeps_quiet_whatever_of_mien_comes_before_it(module: str, tmp_path: Path) -> None:
    assert python(f"import {module}, onnxruntime", tmp_path).stderr == ""
    assert _files(tmp_path) == []


def test_a_program_that_imported_onnx_runtime_first_is_told(tmp_path: Path) -> None:
    assert (
        "import mien first, or set ORT_DISABLE_TELEMETRY=1"
        in python("import onnxruntime, mien", tmp_path).stderr
    )
    assert python("import onnxruntime, mien", tmp_path / "x", ORT_DISABLE_TELEMETRY="1").stderr == ""


def test_the_watch_sees_what_should_not_happen(watched: Watched, tmp_path: Path) -> None:
    """The guard itself: a process that turns elsewhere, and writes elsewhere, is found out."""
    elsewhere = tmp_path / "elsewhere.txt"
    package = tmp_path / "fake" / "mien"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(
        "import socket, pathlib\n"
        "with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s: s.connect(('192.0.2.1', 9))\n"
        f"pathlib.Path({str(elsewhere)!r}).write_text('x')\n"
        "pathlib.Path('here.txt').write_text('x')\n"
        "pathlib.Path.home().joinpath('trace').write_text('x')\n"
    )
    watched.environment["PYTHONPATH"] = str(tmp_path / "fake")
    process = watched.begin()
    process.communicate(timeout=60)
    assert watched.outside() >= {
        "turned to 192.0.2.1 port 9",
        f"wrote {elsewhere}",
        "not asked for: here.txt",
        "left in the home folder: trace",
    }
