"""How long a user waits for the first answer: whole processes, against the imports that they cannot avoid.

Each pair is run alternately, so that whatever else the machine does falls on both; the figures are medians and their
ratio. Goals: `mien predict one-photo.jpg` within 1.5 x `import onnxruntime, cv2, numpy` + 150 ms and 250 MB;
`mien --help` within 1.5 x `import typer`.

    python benchmarks/cold_start.py [--rounds 15] [--photo examples/portrait_smiling.jpg]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
MIEN = [sys.executable, "-m", "mien"]


def timed(command: list[str]) -> tuple[float, float]:
    """Wall-clock seconds and peak resident megabytes of one process."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"{' '.join(command)} failed: {process.stderr.read().decode()}")  # type: ignore[union-attr]
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def pair(name: str, ours: list[str], theirs: list[str], rounds: int, allowance: float) -> bool:
    """Run two commands alternately and print medians; True when ours keeps to 1.5 x theirs + `allowance` seconds."""
    samples: dict[str, list[tuple[float, float]]] = {"ours": [], "theirs": []}
    for _ in range(rounds + 1):
        samples["theirs"].append(timed(theirs))
        samples["ours"].append(timed(ours))
    # The first round fills the file cache.
    mine, base = (statistics.median(s for s, _ in samples[key][1:]) for key in ("ours", "theirs"))
    peak = statistics.median(megabytes for _, megabytes in samples["ours"])
    goal = 1.5 * base + allowance
    print(
        f"{name}: {mine * 1000:.0f} ms, imports {base * 1000:.0f} ms, ratio {mine / base:.2f}, peak {peak:.0f} MB"
    )
    print(f"  goal {goal * 1000:.0f} ms: {'kept' if mine <= goal else 'MISSED'}")
    return mine <= goal


def main() -> None:
    """Measure and print; exit code 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--photo", type=Path, default=ROOT / "examples" / "portrait_smiling.jpg")
    parser.add_argument("--weights", help="another recogniser than the shipped one")
    options = parser.parse_args()
    other = ["--weights", options.weights] if options.weights else []
    imports = [sys.executable, "-c", "import onnxruntime, cv2, numpy"]
    typer = [sys.executable, "-c", "import typer"]
    kept = [
        pair("mien predict", [*MIEN, "predict", str(options.photo), *other], imports, options.rounds, 0.150),
        pair("mien --help", [*MIEN, "--help"], typer, options.rounds, 0.0),
    ]
    sys.exit(0 if all(kept) else 1)


if __name__ == "__main__":
    main()
