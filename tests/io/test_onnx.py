"""A team of threads gives every item of a batch to exactly one call, fairly, in order, and at the same time."""

from __future__ import annotations

import copy
import pickle
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mien.errors import WeightsError
from mien.io import cards
from mien.io.onnx import Network, ThreadedBatches, available


@pytest.mark.parametrize("threads", [1, 2, 3, 16])
@pytest.mark.parametrize("least", [1, 4])
def test_parts_cover_a_batch_once_within_their_bounds(threads: int, least: int) -> None:
    team = ThreadedBatches(threads, most=8, least=least)
    for count in range(150):
        parts = team.parts(count)
        assert [item for part in parts for item in range(count)[part]] == list(range(count))
        sizes = [part.stop - part.start for part in parts]
        assert max(sizes, default=0) <= 8
        assert min(sizes, default=0) >= min(least, count)
        assert max(sizes, default=0) - min(sizes, default=0) <= 1


def test_every_thread_gets_as_many_parts_as_the_others() -> None:
    assert [part.stop - part.start for part in ThreadedBatches(2, most=8).parts(17)] == [4, 4, 4, 5]
    assert len(ThreadedBatches(3, most=8).parts(3)) == 3
    assert len(ThreadedBatches(3, most=8).parts(2)) == 2
    assert len(ThreadedBatches(2, most=32, least=4).parts(7)) == 1  # not worth waking another thread
    assert len(ThreadedBatches(2, most=32, least=4).parts(8)) == 2


def test_answers_come_in_order_and_from_threads_that_run_together() -> None:
    meeting = threading.Barrier(2, timeout=10)  # passes only when two calls wait at once

    def call(part: slice) -> tuple[int, int]:
        meeting.wait()
        return part.start, part.stop

    assert ThreadedBatches(2, most=8).map(call, 16) == [(0, 8), (8, 16)]


def test_one_part_and_one_thread_stay_in_the_caller() -> None:
    here = threading.get_ident()
    assert ThreadedBatches(4, most=8, least=4).map(lambda _: threading.get_ident(), 7) == [here]
    assert ThreadedBatches(1, most=8).map(lambda _: threading.get_ident(), 20) == [here] * 3
    assert ThreadedBatches(2, most=8).map(lambda _: threading.get_ident(), 0) == []


def test_what_a_part_raises_comes_out() -> None:
    def call(part: slice) -> None:
        if part.start:
            raise ValueError(f"part {part.start}")

    with pytest.raises(ValueError, match="part 8"):
        ThreadedBatches(2, most=8).map(call, 16)


def test_a_team_uses_what_the_process_may_use() -> None:
    assert ThreadedBatches(None, most=8).threads == available()


def test_a_team_is_copied_and_pickled_without_its_threads() -> None:
    team = ThreadedBatches(2, most=8)
    team.map(lambda part: part.start, 32)  # its threads are there
    for other in (pickle.loads(pickle.dumps(team)), copy.deepcopy(team)):
        assert (other.threads, other.parts(20)) == (2, team.parts(20))
        assert other.map(lambda part: part.start, 32) == [0, 8, 16, 24]


def test_a_network_travels_as_its_path_and_is_opened_again(recogniser_file: Path, tmp_path: Path) -> None:
    weights = tmp_path / "own.onnx"
    for suffix in (".onnx", ".json"):
        shutil.copy(recogniser_file.with_suffix(suffix), weights.with_suffix(suffix))
    network, _ = Network.open(weights)
    crops = {"crops": np.random.default_rng(0).integers(0, 255, (2, 65, 65), np.uint8)}
    expected = network.run(["logits"], crops)[0]
    sent = pickle.dumps(network)
    assert len(sent) < 1000
    np.testing.assert_array_equal(pickle.loads(sent).run(["logits"], crops)[0], expected)
    np.testing.assert_array_equal(copy.deepcopy(network).run(["logits"], crops)[0], expected)
    moved = tmp_path / "moved.onnx"
    weights.rename(moved)
    with pytest.raises(WeightsError, match="no such weights"):
        pickle.loads(sent).run(["logits"], crops)


def test_other_weights_under_the_same_name_are_noticed(
    tmp_path: Path, write_recogniser: Callable[..., Path]
) -> None:
    sent = pickle.dumps(Network.open(write_recogniser(tmp_path))[0])
    write_recogniser(tmp_path, seed=1)
    with pytest.raises(WeightsError, match="other weights"):
        pickle.loads(sent).get_inputs()


def test_shipped_weights_are_found_where_the_package_lies(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sent = pickle.dumps(Network.open(cards.FOLDER / "landmarks.onnx")[0])
    monkeypatch.setattr(cards, "FOLDER", tmp_path)
    assert pickle.loads(sent).path == tmp_path / "landmarks.onnx"
