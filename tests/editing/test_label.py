"""The visible notice: where it is, and that it is readable on any background."""

from __future__ import annotations

import numpy as np
import pytest

from mien.editing.label import Label, visible_label


@pytest.mark.parametrize("label", ["text", "icon"])
@pytest.mark.parametrize("value", [0, 128, 255])
@pytest.mark.parametrize("size", [(120, 160), (512, 512), (1500, 2000)])
def test_the_notice_is_readable_in_its_corner(label: Label, value: int, size: tuple[int, int]) -> None:
    flat = np.full((*size, 3), value, np.uint8)
    shown = visible_label(flat, label)
    rows, columns = np.nonzero((shown != flat).any(axis=2))
    assert columns.min() > 0
    assert columns.max() < size[1]
    if label == "icon":
        assert rows.max() < size[0] / 2
        assert columns.mean() > size[1] / 2
    else:
        assert rows.min() > size[0] / 2
    part = shown[rows.min() : rows.max(), columns.min() : columns.max()]
    assert int(part.max()) >= 230
    assert int(np.percentile(part, 10)) <= 85, "light on dark"


def test_the_letters_are_an_a_with_a_hole_and_an_i() -> None:
    flat = np.full((2600, 2600, 3), 0, np.uint8)
    light = visible_label(flat, "icon")[..., 0] > 120
    columns = np.nonzero(light.any(axis=0))[0]
    left, unit = columns.min(), 10.0
    x, y = left + 2.5 * unit, 40 + 3 * unit

    def at(across: float, down: float) -> bool:
        return bool(light[round(y + down * unit), round(x + across * unit)])

    assert at(12.7, 5), "the I"
    assert not at(10.9, 5), "between the letters"
    assert at(5, 0.8), "the top of the A"
    assert at(5, 6.8), "its bar"
    assert not at(5, 4.5), "its counter"
    assert not at(5, 9.5), "below the bar"


def test_the_input_is_not_changed() -> None:
    flat = np.full((200, 200, 3), 90, np.uint8)
    visible_label(flat, "icon")
    assert (flat == 90).all()
