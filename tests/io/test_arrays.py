"""Arrays that ship are read by their card and checked for their shapes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from mien.editing.action_basis import ActionBasis
from mien.editing.geometry import Geometry
from mien.editing.head_turn import HeadTurn
from mien.errors import WeightsError
from mien.io import cards
from mien.io.arrays import shaped, stored


def test_a_file_is_read_only_with_its_card(tmp_path: Path) -> None:
    path = tmp_path / "depths.npz"
    np.savez(path, head=np.arange(6.0).reshape(2, 3), names=np.array(["a"]))
    fields = dict.fromkeys(cards.REQUIRED, "") | {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    cards.write(path, fields)
    assert stored(path)["head"].tolist() == [[0, 1, 2], [3, 4, 5]]
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(WeightsError, match="not the weights of the card"):
        stored(path)


def test_what_is_missing_or_has_another_shape_is_named() -> None:
    arrays = {"gain": np.ones(3, np.float32), "more": np.zeros(9)}
    found = shaped(arrays, {"gain": (3,)}, "the gains", "fit_gains")
    assert set(found) == {"gain"}
    assert found["gain"].dtype == np.float64
    for shapes in ({"gain": (4,)}, {"mean": ()}):
        with pytest.raises(WeightsError, match=r"the gains: '(gain|mean)' is missing or not .*fit_gains"):
            shaped(arrays, shapes, "the gains", "fit_gains")


@pytest.mark.parametrize("kind", [Geometry, HeadTurn, ActionBasis])
def test_every_set_of_the_editor_is_checked(kind: type[Geometry | HeadTurn | ActionBasis]) -> None:
    with pytest.raises(WeightsError, match=r"is missing or not .* with mien\.training\.editor\.fit_"):
        kind.from_arrays({})
