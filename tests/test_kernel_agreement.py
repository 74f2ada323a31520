"""How results of different kernels are compared; that they agree is measured by the script, on one machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def script(load_script: Callable[[Path], ModuleType]) -> ModuleType:
    return load_script(ROOT / "scripts" / "kernel_agreement.py")


@pytest.fixture
def face() -> dict[str, Any]:
    points = np.random.default_rng(0).uniform(0, 100, (112, 2))
    return {
        "probabilities": [0.7, 0.3],
        "label": "neutral",
        "affect": [0.1, 0.2],
        "actions": [0.0, 0.5],
        "box": [10.0, 20.0, 50.0, 70.0],
        "points": points.tolist(),
    }


def test_equal_answers_are_at_no_distance(script: ModuleType, face: dict[str, Any]) -> None:
    found = script.compare([[face], []], [[face], []])
    assert found.pop("faces") == 1
    assert found.pop("labels_equal") == 1
    assert set(found.values()) == {0}


def test_each_distance_is_in_its_unit(script: ModuleType, face: dict[str, Any]) -> None:
    eyes = script._eyes(face["points"])
    moved = {
        **face,
        "probabilities": [0.66, 0.34],
        "label": "anger",
        "box": [10.0, 20.0, 50.0, 72.0],
        "points": np.add(face["points"], [0.03 * eyes, 0.04 * eyes]).tolist(),
    }
    found = script.compare([[face], [face]], [[face], [moved]])
    assert found["probabilities"] == pytest.approx(0.04)
    assert found["labels_equal"] == 0.5
    assert found["box_pixels"] == pytest.approx(2)
    assert found["points_percent"] == pytest.approx(5)
    assert not script.kept({"ways": {"a": found}})


def test_another_number_of_faces_is_counted_and_misses_the_goal(
    script: ModuleType, face: dict[str, Any]
) -> None:
    found = script.compare([[face], [face]], [[face], []])
    assert found["faces"] == 1
    assert found["pictures_with_other_faces"] == 1
    assert not script.kept({"ways": {"a": found}})
    assert script.kept({"ways": {"a": {**found, "pictures_with_other_faces": 0}, "b": None}})


def test_a_process_without_avx2_says_so(script: ModuleType, tmp_path: Path) -> None:
    library = script.build(tmp_path)
    if library is None:
        pytest.skip("no C compiler, or another system")
    sse3, avx2 = 4, 11  # OpenCV's numbers
    code = f"import cv2; print(cv2.checkHardwareSupport({sse3}), cv2.checkHardwareSupport({avx2}))"
    environment = {**os.environ, "HIDE_CPU_FEATURES": "vnni,avx512,avx2", "LD_PRELOAD": str(library)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    if done.returncode == script.UNAVAILABLE:
        pytest.skip("this processor cannot hide its features")
    assert done.stdout.split() == ["True", "False"]
    assert done.stderr == ""
