"""What the readers of the eight expressions give to a run with own labels."""

from __future__ import annotations

from typing import Any

import pytest

from mien.data import cropping
from mien.data.config import SourceConfig
from mien.errors import ConfigError
from mien.labels import EXPRESSIONS


def test_a_set_of_the_eight_gives_what_own_labels_share_with_it(miniature: Any) -> None:
    source = SourceConfig(reader="ferplus", root=miniature("ferplus"), protocol="ferplus-majority")
    eight = cropping.source_records(source)
    wanted = ("bored", "Sad", "happiness")
    own = cropping.source_records(source, wanted)
    kept = [one for one in eight if EXPRESSIONS[one.expression] in ("sadness", "happiness")]
    assert [one.name for one in own] == [one.name for one in kept]
    for one, before in zip(own, kept, strict=True):
        assert {"sadness": "Sad", "happiness": "happiness"}[EXPRESSIONS[before.expression]] == wanted[
            one.expression
        ]
        assert one.votes[0] == 0
        assert one.votes[2] == before.votes[EXPRESSIONS.index("happiness")]
    with pytest.raises(ConfigError, match="knows the eight expressions and none of the labels bored, tired"):
        cropping.source_records(source, ("bored", "tired"))
