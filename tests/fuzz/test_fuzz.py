"""Nonsense of every kind is refused with one line, at every door: what was once found, and other cases.

`MIEN_FUZZ_EXAMPLES` says how many other cases each door gets (30 unless told, the same in every run);
`python -m tests.fuzz.campaign` tries thousands a minute in processes of their own, and adds what it finds to the corpus
that is tried here.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import random
import sys
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from . import campaign, targets
from .mutate import KINDS, LARGEST, Edit, apply, drawn, random_edits
from .targets import MOST_PIXELS, TARGETS, pictures

EXAMPLES = int(os.environ.get("MIEN_FUZZ_EXAMPLES", "30"))
SLOW = ("analyses", "recognisers", "checkpoints", "forms", "provenance")
"""Doors behind which a case takes tens of milliseconds: a fifth of the cases in a quick run."""

KEPT = sorted(campaign.CORPUS.glob("*/*.bin"))


@pytest.mark.parametrize("case", KEPT, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_was_found_once_is_refused_for_ever(case: Path) -> None:
    target, _, needs = TARGETS[case.parent.name]
    pytest.importorskip(needs)
    target(case.read_bytes())


# A form that breaks off leaves its temporary file to the garbage collector, as Starlette is written.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", TARGETS)
def test_new_nonsense_is_refused(name: str) -> None:
    target, seeds, needs = TARGETS[name]
    pytest.importorskip(needs)
    sound = seeds()

    @settings(
        max_examples=max(5, EXAMPLES // 5) if name in SLOW else EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(range(len(sound))), drawn())
    def tried(number: int, edits: list[Edit]) -> None:
        target(apply(sound[number], edits))

    tried()
    gc.collect()  # so that no later test is blamed for it


@pytest.mark.parametrize("name", TARGETS)
def test_the_sound_files_pass(name: str) -> None:
    """Otherwise the targets would only ever see what is refused at the first byte."""
    target, seeds, needs = TARGETS[name]
    pytest.importorskip(needs)
    for data in seeds():
        target(data)


def test_the_pictures_are_pictures() -> None:
    from mien.io import images

    assert len(pictures()) >= 24
    read = [data for data in pictures() if targets.tolerant(lambda data=data: images.read(data)) is not None]
    assert len(read) == len(pictures()) - 1  # the one of floating-point values, whose range nobody knows


def test_edits_repeat_and_stay_small() -> None:
    seed = bytes(range(256)) * 4
    for number in range(200):
        edits = random_edits(random.Random(number))
        assert apply(seed, edits) == apply(seed, random_edits(random.Random(number)))
        assert len(apply(seed, edits * 20)) <= LARGEST
    for kind in KINDS:
        assert isinstance(apply(b"", [(kind, 0.5, 3, 7)]), bytes)  # also on nothing
        assert any(apply(b"ab12" * 9, [(kind, 0.3, 5, value)]) != b"ab12" * 9 for value in range(40))


def _decode_all(channel: Connection) -> None:
    """In a process of its own, whose memory starts small."""
    sound = pictures()
    doors = [TARGETS[name][0] for name in ("images", "photos")]
    for door in doors:
        for data in sound:
            door(data)
    before = campaign.peak()
    for path in KEPT:
        if path.parent.name in ("images", "photos", "analyses"):
            for door in doors:
                door(path.read_bytes())
    generator = random.Random(0)
    for _ in range(10 * EXAMPLES):
        random_door = generator.choice(doors)
        random_door(apply(generator.choice(sound), random_edits(generator)))
    channel.send(campaign.peak() - before)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell a process its peak memory")
def test_spoilt_pictures_take_no_more_memory_than_the_bound_allows() -> None:
    """Pillow decodes to 4 bytes a pixel and converts once or twice; a case of the most pixels may take that."""
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_decode_all, args=(send,))
    process.start()
    send.close()
    grown = receive.recv()
    process.join()
    assert grown < 24 * MOST_PIXELS + 40 * 2**20
