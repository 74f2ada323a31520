"""Killed in the middle: ladders of methods, releases and rendered sets go on, and end as if nothing had happened.

Each command is a process of its own, killed with SIGKILL at every moment that matters.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("pyarrow", reason="needs the train extra")

from mien.data.readers import manifest
from mien.data.synthetic import drawings

pytestmark = [
    pytest.mark.slow,  # a dozen processes that import torch
    pytest.mark.skipif(os.name == "nt", reason="SIGKILL is of POSIX systems"),
]

PATIENCE = 300.0
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def killed(command: list[str], moment: Callable[[], bool]) -> bool:
    """Start a command and kill it at a moment; False when it ended before."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    end = time.monotonic() + PATIENCE
    while not moment() and process.poll() is None:
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.001)
    process.kill()
    _, err = process.communicate()
    assert process.returncode in (0, -9), err
    return process.returncode == -9


def finished(command: list[str]) -> str:
    """Let a command run to its good end; what it printed."""
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=PATIENCE, env=ENVIRONMENT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def there(folder: Path, pattern: str, count: int = 1) -> Callable[[], bool]:
    """Whether as many files are there."""
    return lambda: len(list(folder.glob(pattern))) >= count


def faces(folder: Path, count: int) -> dict[str, Any]:
    """Drawn faces in a folder with a manifest; the reader's part of a configuration."""
    records = drawings.records(folder, count, size=48)
    manifest.write(records, folder / "manifest.csv")
    np.savez(
        folder / "points.npz",
        names=np.array([record.name for record in records]),
        points=np.stack([face.landmarks for face in drawings.faces(count, size=48)]).astype(np.float32),
    )
    return {"reader": "manifest", "root": str(folder)}


def test_a_ladder_goes_on_wherever_it_was_killed(tmp_path: Path) -> None:
    source = faces(tmp_path / "faces", 80)
    points = str(tmp_path / "faces" / "points.npz")

    def command(name: str) -> list[str]:
        tree = {
            "name": "drawn",
            "method": {"name": "ke2nt", "backbone": "tiny", "contrast_weight": 0.1},
            "data": {**source, "size": 32, "cache": str(tmp_path / "cache"), "points": points},
            "epochs": 2,
            "batch": 16,
            "threads": 1,
            "runs": str(tmp_path / name),
        }
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(tree), encoding="utf-8")
        asked = ["--rungs", "linear,random", "--seeds", "0", "--draws", "20", "--json"]
        return [sys.executable, "-m", "mien", "ablate", "ke2nt", "--config", str(path), *asked]

    whole = figures(json.loads(finished(command("whole"))))
    runs, disturbed = tmp_path / "disturbed", command("disturbed")
    moments = {
        "in the first training": there(runs, "drawn-linear-s0/checkpoint*"),
        "between training and judging": there(runs, "drawn-linear-s0/finished"),
        "in the middle of a report": there(runs, "drawn-linear-s0/evaluation/report.json"),
        "in the second training": there(runs, "drawn-random-s0/checkpoint*"),
        "at its end": there(runs, "drawn-random-s0/finished"),
    }
    hits = [name for name, moment in moments.items() if killed(disturbed, moment)]
    assert len(hits) >= 3, hits  # a moment that is over before it is looked at kills nobody
    assert figures(json.loads(finished(disturbed))) == whole
    for rung in ("linear", "random"):
        one, other = (tmp_path / name / f"drawn-{rung}-s0" for name in ("whole", "disturbed"))
        assert same(one / "weights.safetensors", other / "weights.safetensors"), "bit for bit"
        assert {path.name for path in (one / "evaluation").iterdir()} == {
            path.name for path in (other / "evaluation").iterdir()
        }


def figures(found: Any) -> Any:
    """A comparison without where and when its runs were made."""
    if isinstance(found, dict):
        return {key: figures(value) for key, value in found.items() if key != "provenance"}
    return [figures(value) for value in found] if isinstance(found, list) else found


def same(one: Path, other: Path) -> bool:
    """Whether two files hold the same tensors, whatever their cards say of time and place."""
    from safetensors.numpy import load_file

    left, right = load_file(one), load_file(other)
    return left.keys() == right.keys() and all(np.array_equal(left[key], right[key]) for key in left)


def test_a_release_that_was_killed_is_made_again_and_never_taken_for_one(tmp_path: Path) -> None:
    from mien.errors import WeightsError
    from mien.evaluation.validation import validate
    from mien.faces.recognise import OnnxRecogniser
    from mien.io import cards
    from mien.training import loop
    from mien.training.config import RunConfig

    source = faces(tmp_path / "faces", 160)
    run = RunConfig(
        name="drawn",
        method={"name": "baseline", "backbone": "tiny"},
        data={**source, "size": 48, "cache": str(tmp_path / "cache")},
        epochs=1,
        batch=16,
        threads=1,
        runs=tmp_path / "runs",
    )
    tree = {
        "name": "drawn",
        "run": str(loop.run(run, validate)),
        "card": dict.fromkeys(cards.REQUIRED, "stated"),
    }
    (tmp_path / "release.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")

    def command(out: Path) -> list[str]:
        # The few validation pictures here say nothing of what int8 costs.
        script = "from mien import release; release.INT8_LOSS = 1.0; from mien.cli.main import main; main()"
        asked = ["release", str(tmp_path / "release.yaml"), "--out", str(out)]
        return [sys.executable, "-c", script, *asked]

    finished(command(tmp_path / "whole"))
    out = tmp_path / "out"
    network = out / "drawn.onnx"
    assert killed(command(out), there(out, ".mien-*/*.onnx"))
    assert not network.exists()
    with pytest.raises(WeightsError):
        OnnxRecogniser.load(network)
    finished(command(out))
    OnnxRecogniser.load(network)
    card, expected = (
        json.loads((folder / "drawn.json").read_text(encoding="utf-8"))
        for folder in (out, tmp_path / "whole")
    )
    assert card["metrics"] == expected["metrics"]
    assert card["sha256"] == expected["sha256"] == hashlib.sha256(network.read_bytes()).hexdigest()


def test_rendering_goes_on_behind_the_last_person(tmp_path: Path) -> None:
    made = Path(__file__).parent / "data" / "rendered"
    script = (
        f"import sys; sys.path.insert(0, {str(made)!r})\n"
        "from make import head\nfrom mien.data.readers import rendered as heads\n"
        "from mien.data.synthetic.head import Renderer\n"
        "heads.renderer = lambda path, size, movements=False: (Renderer(head(), size=size), 'ball')\n"
        "from mien.cli.main import main; main()"
    )

    def command(out: Path) -> list[str]:
        asked = [
            "data",
            "render",
            "ball.npz",
            str(out),
            "--identities",
            "14",
            "--images",
            "4",
            "--size",
            "64",
        ]
        return [sys.executable, "-c", script, *asked]

    def files(out: Path) -> dict[str, bytes]:
        return {
            str(path.relative_to(out)): path.read_bytes()
            for path in out.rglob("*")
            if path.is_file() and path.suffix != ".npz"  # an archive holds the time it was made
        }

    finished(command(tmp_path / "whole"))
    out = tmp_path / "out"
    assert killed(command(out), there(out, "rendered.json.begun"))
    assert killed(command(out), there(out, "pictures/00003/*.png", 2))
    early = {path: path.stat().st_mtime_ns for path in out.glob("pictures/0000[0-2]/*.png")}
    assert len(early) == 12
    assert killed(command(out), there(out, "pictures/00009/*.png"))
    finished(command(out))
    assert {path: path.stat().st_mtime_ns for path in early} == early, "not rendered again"
    assert files(out) == files(tmp_path / "whole")
    assert not list(out.rglob("*.part*"))
    with np.load(out / "points.npz") as one, np.load(tmp_path / "whole" / "points.npz") as other:
        assert np.array_equal(one["names"], other["names"])
        assert np.array_equal(one["points"], other["points"], equal_nan=True)
