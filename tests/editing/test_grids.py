"""Sheets of edits."""

from __future__ import annotations

import numpy as np
import pytest

from mien.editing.grids import labelled


@pytest.mark.parametrize("width", [150, 240, 380])
def test_a_caption_is_whole(width: int) -> None:
    picture = np.full((20, width, 3), 200, np.uint8)
    captions = [labelled(picture, f"happiness 0.4: refuse{end}") for end in ("d", "d.", "s")]
    for one in captions:
        assert (one[:20] == picture).all()
        assert (one[20:, -4:] == 28).all(), "room is left to the right"
    assert not any((one == captions[0]).all() for one in captions[1:]), "the last letter is seen"
