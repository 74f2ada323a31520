"""`mien doctor`: what it prints, as text and as JSON, and its exit code."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mien import __version__
from mien.cli import doctor
from mien.io import cards
from mien.reports import installation
from mien.reports.installation import Extra, Speed, WeightCheck

WEIGHTS = sum(path.suffix in (".onnx", ".npz") for path in cards.FOLDER.rglob("*"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """One picture for each number of threads."""
    monkeypatch.setattr(installation, "SECONDS", 0.0)


def test_it_says_what_is_here_in_eighty_columns(command: Any) -> None:
    ran = command("doctor")
    assert (ran.code, ran.err) == (0, "")
    assert max(map(len, ran.out.splitlines())) <= 80
    for heading in (
        "Versions",
        "System",
        "Extras",
        f"Weights: {WEIGHTS} of {WEIGHTS}",
        "Places",
        "Terminal",
        "Speed: --threads",
    ):
        assert f"\n\n{heading}" in f"\n\n{ran.out}"
    assert __version__ in ran.out
    assert ran.out.endswith("Pictures can be analysed.\n")


def test_it_says_the_same_as_json(command: Any) -> None:
    ran = command("doctor", "--json")
    assert (ran.code, ran.out.count("\n")) == (0, 1)
    found = json.loads(ran.out)
    assert found["versions"]["mien"] == __version__
    assert found["problems"] == []
    assert found["fastest_threads"] in map(int, found["speed"]["rates"])


def test_damaged_weights_are_a_problem(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        installation, "check_weights", lambda card: WeightCheck("a.onnx", "a.onnx: wrong: reinstall mien")
    )
    ran = command("doctor")
    assert ran.code == 1
    assert f"Weights: 0 of {WEIGHTS}" in ran.out
    assert ran.out.endswith("  a.onnx: wrong: reinstall mien\n")


def test_a_missing_extra_has_the_line_that_adds_it() -> None:
    text = doctor._extra(Extra("video", {"av": "15.0"}, ("edgefirst-tracker",), "mien video"))
    assert text.splitlines() == [
        "  video     not    mien video (not installed: edgefirst-tracker)",
        "                   pip install 'mien[video]'",
    ]


@pytest.mark.parametrize(
    ("rates", "text"),
    [
        ({1: 20.0, 2: 30.0}, "--threads 2 is fastest, 1.50 times --threads 1 (pictures/s 1: 20.0, 2: 30.0)"),
        ({1: 30.0, 2: 20.0}, "--threads 1 is fastest, 1.50 times --threads 2 (pictures/s 1: 30.0, 2: 20.0)"),
        ({1: 30.0}, "--threads 1 is fastest (pictures/s 1: 30.0)"),
        ({}, "not measured"),
    ],
)
def test_the_speed_is_one_line_with_the_ratio(rates: dict[int, float], text: str) -> None:
    assert doctor._speed(Speed(rates)) == text
