"""Wrong labels on purpose, to test how much of them a method tolerates."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from mien.data.records import Record
from mien.labels import UNLABELLED


def with_wrong_labels(records: Sequence[Record], share: float, classes: int) -> list[Record]:
    """Give a share of the labelled records a wrong class, each other one with equal probability; order kept.

    Which records, and their wrong classes, depend on the pictures' names alone, so that every method and seed learns
    from the same wrong labels. Votes of the two classes are exchanged. Valence and arousal of the set stay.

    Args:
        records: those to learn from.
        share: 0 to 1, of the labelled ones.
        classes: how many there are.
    """
    hashes = {
        place: hashlib.sha256(f"wrong label {record.name or record.path.name}".encode()).digest()
        for place, record in enumerate(records)
        if record.expression != UNLABELLED
    }
    chosen = sorted(hashes, key=hashes.__getitem__)[: round(share * len(hashes))]
    noisy = list(records)
    for place in chosen:
        true = records[place].expression
        wrong = (true + 1 + int.from_bytes(hashes[place][-8:], "big") % (classes - 1)) % classes
        votes = list(records[place].votes)
        if votes:
            votes[true], votes[wrong] = votes[wrong], votes[true]
        noisy[place] = replace(records[place], expression=wrong, votes=tuple(votes))
    return noisy
