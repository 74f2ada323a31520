"""How `mien video` does: frames a second, memory against length, and how well people are told apart.

Goals: 25 frames/s of 640 x 360 with one face on two cores with the shipped weights; at most 20 MB more at the peak for
5,000 frames than for 500, table, film and page included; every measured run is a process of its own.

    python benchmarks/video.py [--clip FILE] [--long 5000] [--people FOLDER] [--only speed|memory|people]

Without `--clip` the frames are a bundled portrait, carried about. `--people` is a folder of photographs that are named
after persons, `<expression>/<person>_*.jpg` with two expressions, such as the Face Research Lab London Set. `--json`
keeps those figures of `docs/video.md` that do not depend on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
WIDTH, HEIGHT = 640, 360


def frames(clip: str | None, count: int) -> Iterator[Any]:
    """RGB frames of WIDTH x HEIGHT: a clip to and fro, or a portrait that moves about."""
    import cv2
    import numpy as np

    if clip is None:
        from mien.io import images

        face = cv2.resize(images.read(ROOT / "examples" / "portrait_smiling.jpg"), (300, 300))
        scene = np.full((HEIGHT, WIDTH, 3), (96, 110, 120), dtype=np.uint8)
        scene[30:330, 170:470] = face
        for number in range(count):
            shift = 60 * np.sin(number / 40), 12 * np.cos(number / 23)
            matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
            yield cv2.warpAffine(scene, matrix, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REPLICATE)
        return
    from mien.video import VideoReader

    with VideoReader(clip) as opened:
        kept = [
            cv2.resize(picture.rgb, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
            for picture, _ in zip(opened.pictures(), range(500), strict=False)
        ]
    # To and fro, so that no cut is added.
    there_and_back = kept + kept[-2:0:-1]
    for number in range(count):
        yield there_and_back[number % len(there_and_back)]


def make(clip: str | None, count: int, path: str) -> None:
    """Write a clip to measure with."""
    from mien.io.video import VideoWriter

    film = VideoWriter(path, WIDTH, HEIGHT, 25.0)
    for number, rgb in enumerate(frames(clip, count)):
        film.add(rgb, number / 25)
    film.finish()


def speed(path: str, threads: int | None) -> dict[str, float]:
    """Frames a second of `mien.video.analyse`, decoding included, and the processor's milliseconds for each."""
    import cv2

    import mien
    from mien.io.onnx import available
    from mien.video import analyse

    cv2.setNumThreads(threads or available())
    pipeline = mien.load(threads=threads)
    for _, _ in zip(analyse(path, pipeline), range(50), strict=False):  # warm
        pass
    count = searched = faces = 0
    used, begun = time.process_time(), time.perf_counter()
    for frame in analyse(path, pipeline):
        count, searched, faces = count + 1, searched + frame.searched, faces + len(frame.faces)
    seconds = time.perf_counter() - begun
    return {
        "frames": count,
        "faces": faces,
        "searched": searched,
        "rate": count / seconds,
        "cpu_ms": (time.process_time() - used) / count * 1000,
        "threads": threads or available(),
    }


def people(folder: str) -> dict[str, dict[str, float]]:
    """How well pairs of photographs are told apart by the recogniser's embedding and by looks."""
    import numpy as np

    import mien
    from mien.io import images
    from mien.video import identities
    from mien.video.appearance import look

    pipeline = mien.load(embeddings=True, threads=1)
    found: dict[str, list[tuple[Any, Any]]] = {}
    for path in sorted(Path(folder).glob("*/*_*.jpg")):
        rgb = images.read(path)
        faces = pipeline(rgb).faces
        if faces:
            vector = np.array(faces[0].reading.embedding)
            pair = vector / np.linalg.norm(vector), look(rgb, faces[0].landmarks)
            found.setdefault(path.name.split("_")[0], []).append(pair)
    both = [pairs for pairs in found.values() if len(pairs) >= 2]
    answer = {}
    for index, name in enumerate(("expression embedding", "look")):
        likeness = np.array([p[0][index] for p in both]) @ np.array([p[1][index] for p in both]).T
        same, other = np.diag(likeness), likeness[~np.eye(len(both), dtype=bool)]
        above = np.searchsorted(np.sort(other), same) / len(other)
        limit = identities.SAME if name == "look" else float(np.quantile(other, 0.99))
        answer[name] = {
            "people": len(both),
            "area under ROC": float(above.mean()),
            "limit": limit,
            "same people above it": float((same >= limit).mean()),
            "others above it": float((other >= limit).mean()),
        }
    return answer


def child(*arguments: str) -> tuple[Any, float, float]:
    """What a process of this script prints, its seconds and its peak in megabytes."""
    return measured([sys.executable, __file__, *arguments], parse=True)


def measured(command: list[str], parse: bool = False) -> tuple[Any, float, float]:
    """Run a command: what it printed, its seconds, and its peak in megabytes."""
    begun = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - begun
        if process.returncode:
            sys.exit(f"{' '.join(command)} failed")
        output.seek(0)
        text = output.read()
    return (json.loads(text) if parse else text), seconds, usage.ru_maxrss / 1024


def verdict(text: str, kept: bool) -> bool:
    print(f"{text}  [{'kept' if kept else 'MISSED'}]")
    return kept


def main() -> None:
    """Measure and print; exit code 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clip")
    parser.add_argument("--long", type=int, default=5000)
    parser.add_argument("--people")
    parser.add_argument("--only", choices=("speed", "memory", "people"))
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        work, *rest = options.child
        if work == "make":
            make(rest[0] if rest[0] != "-" else None, int(rest[1]), rest[2])
            print("{}")
        elif work == "speed":
            print(json.dumps(speed(rest[0], int(rest[1]) or None)))
        else:
            print(json.dumps(people(rest[0])))
        return
    print(f"load average {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores")
    kept = []
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        short, long = (str(Path(temporary) / f"{count}.mp4") for count in (500, options.long))
        if options.only != "people":
            child("--child", "make", options.clip or "-", "500", short)
        if options.only in (None, "speed"):
            for threads in ("1", "0"):
                found, _, _ = child("--child", "speed", short, threads)
                figures["searched"] = {name: found[name] for name in ("frames", "searched")}
                text = (
                    f"{found['threads']} threads: {found['rate']:.1f} frames/s, {found['cpu_ms']:.1f} ms of processor "
                    f"a frame, {found['faces'] / found['frames']:.2f} faces a frame, searched {found['searched']} of "
                    f"{found['frames']}"
                )
                kept.append(verdict(text, found["rate"] >= 25)) if threads == "0" else print(text)
        if options.only in (None, "memory"):
            child("--child", "make", options.clip or "-", str(options.long), long)
            peaks = []
            for path in (short, long):
                target = Path(path).with_suffix("")
                written = [
                    "--out",
                    f"{target}.csv",
                    "--annotate",
                    f"{target}-film.mp4",
                    "--page",
                    f"{target}.html",
                ]
                _, seconds, peak = measured([sys.executable, "-m", "mien", "video", path, *written])
                peaks.append(peak)
                print(
                    f"{Path(path).stem} frames into table, film and page: {seconds:.0f} s, peak {peak:.0f} MB"
                )
            more = peaks[1] - peaks[0]
            kept.append(verdict(f"{more:+.1f} MB for {options.long} frames", more <= 20))
    if options.people and options.only in (None, "people"):
        figures["people"] = child("--child", "people", options.people)[0]
        for name, values in figures["people"].items():
            print(f"{name}: " + ", ".join(f"{key} {value:.4g}" for key, value in values.items()))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        earlier = json.loads(options.json.read_text("utf-8")) if options.json.exists() else {}
        options.json.write_text(json.dumps(earlier | figures, indent=1) + "\n", encoding="utf-8")
    print(f"load average {os.getloadavg()[0]:.1f}")
    sys.exit(0 if all(kept) else 1)


if __name__ == "__main__":
    main()
