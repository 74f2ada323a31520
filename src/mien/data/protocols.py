"""Evaluation protocols: the pictures of a dataset that count, their classes, splits and the headline metric.

A protocol is a YAML file in `mien/data/protocol_files/`. Applied to a reader's records it filters them, gives each
its class
(and vote shares), and assigns the splits. A result names the protocol, its version and `digest`, the hash of the file
list: two results are comparable if and only if those three agree.

Splits that a dataset does not define are made by hashing the pictures' own names: the same files give the same split on
every machine, in any order, without a random seed.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from mien.config import Frozen, explain, parse_yaml
from mien.data.records import Record, Split
from mien.data.vote_rules import RULES
from mien.errors import ConfigError, DatasetDamaged, nearest
from mien.labels import EXPRESSIONS, UNLABELLED, canonical

SPLIT_NAMES: tuple[Split, ...] = ("train", "valid", "test")


class Holdout(Frozen):
    """Move a share of one split to another, chosen by hash; whole groups if `by` names one."""

    source: Split = "train"
    target: Split = "valid"
    share: float = Field(gt=0, lt=1)
    by: Literal["name", "subject", "video"] = "name"


class Folds(Frozen):
    """k-fold cross-validation: fold i is "test", fold i+1 "valid", the rest "train".

    `by` keeps all pictures of a subject or video in one fold. `order` is "balanced" (largest group to the smallest
    fold), "dealt" (sorted group names are assigned to the folds in turn, as usual for CK+).
    """

    count: int = Field(ge=2)
    by: Literal["name", "subject", "video"] = "name"
    order: Literal["balanced", "dealt"] = "balanced"


class Protocol(Frozen):
    """One way to evaluate on one dataset.

    Attributes:
        name, version: stored with every result; any change of the fields below is a new version.
        dataset: a name in `mien.data.readers.READERS`; `options` go to that reader.
        task: "expression" keeps pictures with a class, "affect" those with valence and arousal.
        rule: how votes become a class, a name in `mien.data.vote_rules.RULES`; None takes the dataset's own label.
        train_rule: another rule for the training pictures; None takes `rule`.
        classes: the expressions kept, in `EXPRESSIONS` order.
        split: maps the reader's splits to those of the protocol; a split left out is dropped.
        holdout, folds: applied after `split`.
        crop: the picture that published numbers assume. metric: the headline metric. selection: how weights are chosen.
        expected: pictures in each split on an undamaged copy; empty if it depends on folds or on gated data.
        published: the numbers that its authors state, if they count differently (see `notes`).
    """

    name: str
    version: int = Field(1, ge=1)
    dataset: str
    description: str
    source: str
    task: Literal["expression", "affect"] = "expression"
    options: dict[str, Any] = Field(default_factory=dict)
    rule: str | None = None
    train_rule: str | None = None
    classes: tuple[str, ...] = EXPRESSIONS
    split: dict[Split, Split] = Field(default_factory=lambda: {name: name for name in SPLIT_NAMES})
    holdout: Holdout | None = None
    folds: Folds | None = None
    crop: str
    metric: str
    selection: str
    expected: dict[Split, int] = Field(default_factory=dict)
    published: dict[Split, int] = Field(default_factory=dict)
    notes: str = ""

    @model_validator(mode="after")
    def _check(self) -> Protocol:
        for rule in (self.rule, self.train_rule):
            if rule is not None and rule not in RULES:
                raise ValueError(f"rule '{rule}': {nearest(rule, list(RULES))}")
        if tuple(name for name in EXPRESSIONS if name in self.classes) != self.classes:
            raise ValueError(f"classes must be expression names in the order {', '.join(EXPRESSIONS)}")
        return self

    def apply(
        self, records: Iterable[Record], fold: int = 0, labels: tuple[str, ...] = EXPRESSIONS
    ) -> list[Record]:
        """Keep the pictures that count, with their class, vote shares (summing to 1) and split under this protocol.

        Args:
            records: the records that the dataset's reader returned.
            fold: the tested fold, from 0; only for a protocol with folds.
            labels: the labels that the records' expressions refer to. With own labels all are kept.

        Raises:
            ConfigError: no such fold, or own labels with a protocol that has a vote rule or classes.
            DatasetDamaged: no picture is left, or the rule needs votes and a record has none.
        """
        if not 0 <= fold < (self.folds.count if self.folds else 1):
            raise ConfigError(
                f"{self.name}: fold {fold}: use 0 to {self.folds.count - 1 if self.folds else 0}"
            )
        if labels != EXPRESSIONS:
            if self.rule is not None or self.classes != EXPRESSIONS:
                raise ConfigError(
                    f"{self.name}: its {'vote rule' if self.rule else 'classes'} need the eight expressions: own "
                    "labels need a protocol without `rule` and `classes`, or none"
                )
            wanted = set(range(len(labels)))
        else:
            wanted = {EXPRESSIONS.index(canonical(name)) for name in self.classes}
        kept: list[Record] = []
        for record in records:
            if record.split not in self.split:
                continue
            judged = self._judge(record)
            if judged is None or (self.task == "expression" and judged.expression not in wanted):
                continue
            kept.append(replace(judged, split=self.split[record.split]))
        if not kept:
            raise DatasetDamaged(f"protocol {self.name} keeps none of these records: is this {self.dataset}?")
        if self.holdout:
            kept = held_out(
                kept, self.holdout.share, self.holdout.target, self.holdout.source, self.holdout.by
            )
        if self.folds:
            kept = in_folds(kept, self.folds, fold)
        return kept

    def _judge(self, record: Record) -> Record | None:
        if self.task == "affect":
            return None if record.valence is None or record.arousal is None else record
        rule = (
            self.rule if self.train_rule is None or self.split[record.split] != "train" else self.train_rule
        )
        if rule is None:
            return None if record.expression == UNLABELLED else record
        if len(record.votes) != len(EXPRESSIONS):
            raise DatasetDamaged(
                f"protocol {self.name} needs votes, but '{record.name}' has none: use --reader ferplus"
            )
        counts = (*record.votes, *(float(record.attributes.get(key, 0)) for key in ("unknown", "NF")))
        verdict = RULES[rule](counts)
        return (
            None if verdict is None else replace(record, expression=verdict.expression, votes=verdict.shares)
        )

    def digest(self, records: Iterable[Record]) -> str:
        """SHA-256 of the applied file list: split, name, class, shares and affect of each picture, sorted by name.

        Paths are not included: the same dataset elsewhere has the same digest.
        """
        lines = sorted(
            f"{record.split}\t{record.name}\t{record.frame}\t{record.expression}\t"
            f"{','.join(f'{share:.6f}' for share in record.votes)}\t{record.valence}\t{record.arousal}"
            for record in records
        )
        return hashlib.sha256("\n".join([f"{self.name} {self.version}", *lines]).encode()).hexdigest()


def names() -> tuple[str, ...]:
    """The shipped protocols, sorted."""
    folder = resources.files("mien") / "data" / "protocol_files"
    return tuple(
        sorted(path.name.removesuffix(".yaml") for path in folder.iterdir() if path.name.endswith(".yaml"))
    )


def load(name: str | Path) -> Protocol:
    """Read a shipped protocol by name, or one of your own by the path of its YAML file.

    Raises:
        ConfigError: no such protocol (the message names the nearest), or a wrong key or value.
    """
    if str(name).endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise ConfigError(f"{path}: no such protocol file")
        text = path.read_text(encoding="utf-8", errors="replace")
    else:
        if name not in names():
            raise ConfigError(f"no protocol '{name}': {nearest(str(name), list(names()))}")
        text = (resources.files("mien") / "data" / "protocol_files" / f"{name}.yaml").read_text(
            encoding="utf-8"
        )
    try:
        return Protocol(**parse_yaml(text, f"protocol {name}:"))
    except ValidationError as problem:
        raise explain(problem, Protocol, f"protocol {name}") from None
    except TypeError as problem:
        raise ConfigError(f"protocol {name}: not a YAML mapping: {str(problem).splitlines()[0]}") from None


def _order(text: str) -> str:
    """The sort key of a name in the hashed order."""
    return hashlib.sha256(text.encode()).hexdigest()


def _group(record: Record, by: str) -> str:
    if by == "name":
        return record.name or record.path.as_posix()
    group = record.subject if by == "subject" else record.video
    if group is None:
        raise DatasetDamaged(f"'{record.name or record.path}' has no {by}, which this split needs")
    return group


def held_out(
    records: list[Record], share: float, target: Split, source: Split = "train", by: str = "name"
) -> list[Record]:
    """Move `share` of the `source` records to `target`; order kept.

    By "name" the share is taken within each class (stratified), by "subject" or "video" whole groups are taken, in
    hashed order, until the share is reached. At least one record or group is always moved.
    """
    candidates = [record for record in records if record.split == source]
    chosen: set[str] = set()
    if by == "name":
        strata: dict[int, list[str]] = defaultdict(list)
        for record in candidates:
            strata[record.expression].append(_group(record, by))
        for members in strata.values():
            chosen.update(sorted(members, key=_order)[: round(share * len(members))])
        if not chosen and len(candidates) > 1:
            chosen.add(min((_group(record, by) for record in candidates), key=_order))
    else:
        sizes = Counter(_group(record, by) for record in candidates)
        taken = 0
        for group in sorted(sizes, key=_order):
            if chosen and taken + sizes[group] / 2 >= share * len(candidates):
                break
            chosen.add(group)
            taken += sizes[group]
    return [
        replace(record, split=target) if record.split == source and _group(record, by) in chosen else record
        for record in records
    ]


def in_folds(records: list[Record], folds: Folds, tested: int) -> list[Record]:
    """Assign the splits of one round of k-fold cross-validation; order kept.

    By "name" each class is distributed over the folds in hashed order; see `Folds` for groups.

    Raises:
        DatasetDamaged: fewer groups than folds.
    """
    place: dict[str, int] = {}
    if folds.by == "name":
        strata: dict[int, set[str]] = defaultdict(set)
        for record in records:
            strata[record.expression].add(_group(record, "name"))
        dealt = 0  # continues over the classes, so that small classes do not all fill fold 0
        for label in sorted(strata):
            for member in sorted(strata[label], key=_order):
                place[member] = dealt % folds.count
                dealt += 1
    else:
        sizes = Counter(_group(record, folds.by) for record in records)
        if len(sizes) < folds.count:
            raise DatasetDamaged(
                f"{len(sizes)} groups by {folds.by} cannot make {folds.count} folds: is the copy complete?"
            )
        if folds.order == "dealt":
            place = {group: index % folds.count for index, group in enumerate(sorted(sizes))}
        else:
            filled = [0] * folds.count
            for group in sorted(sizes, key=lambda group: (-sizes[group], _order(group))):
                place[group] = filled.index(min(filled))
                filled[place[group]] += sizes[group]
    role: dict[int, Split] = {tested: "test", (tested + 1) % folds.count: "valid"}
    return [replace(record, split=role.get(place[_group(record, folds.by)], "train")) for record in records]
