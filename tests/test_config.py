"""Configuration: read once, checked with a hint, and unchangeable."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from mien.config import parse_yaml, set_key
from mien.errors import ConfigError, nearest
from mien.training.config import RunConfig, load_config

MINIMAL = {
    "name": "trial",
    "method": {"name": "baseline"},
    "data": {"reader": "ferplus", "root": "somewhere", "also": [{"reader": "rafdb", "root": "there"}]},
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(MINIMAL))
    return path


def test_a_file_and_assignments_make_a_configuration(file: Path) -> None:
    config = load_config(
        file, ["data.size=112", "optim.clip=null", "epochs=3", "method.width=0.5", "data.colour=true"]
    )
    assert config.data.size == 112
    assert config.data.colour is True
    assert config.optim.clip is None
    assert config.epochs == 3
    assert config.method == {"name": "baseline", "width": 0.5}
    assert load_config(file).epochs == RunConfig.model_fields["epochs"].default


def test_a_configuration_survives_yaml(file: Path, tmp_path: Path) -> None:
    config = load_config(file, ["seed=5"])
    copy = tmp_path / "copy.yaml"
    copy.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    assert load_config(copy) == config


def test_nothing_can_be_written_to(file: Path) -> None:
    config = load_config(file)
    with pytest.raises(ValidationError, match="frozen"):
        config.epochs = 3
    with pytest.raises(ValidationError, match="frozen"):
        config.data.size = 64


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("epoch=3", "no key 'epoch': did you mean 'epochs'"),
        ("data.sise=64", "no key 'data.sise': did you mean 'size'"),
        ("optim.zzz=1", "no key 'optim.zzz': known: backbone_rate"),
        ("data.size=8", "'data.size': input should be greater than or equal to 32"),
        ("data.colour=perhaps", "'data.colour'"),
        ("optim.name=adam", "'optim.name': no 'adam': did you mean 'adamw'?"),
        ("epochs", "not an assignment: write it as section.key=value"),
        ("name.first=x", "'name' is a value, not a section"),
        ("epochs=[1", "not YAML"),
        ("=3", "write it as section.key=value"),
        ("data..size=64", "write it as section.key=value"),
    ],
)
def test_a_wrong_assignment_is_one_line_with_the_remedy(file: Path, assignment: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(file, [assignment])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_key_inside_a_list_is_named_too(file: Path) -> None:
    tree = {**MINIMAL, "data": {**MINIMAL["data"], "also": [{"reader": "rafdb", "root": "there", "flod": 1}]}}  # type: ignore[dict-item]
    file.write_text(yaml.safe_dump(tree))
    with pytest.raises(ConfigError, match=r"no key 'data.also.0.flod': did you mean 'fold'"):
        load_config(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "mapping"),
        ("- a\n- b\n", "mapping"),
        ("a: [1", "not YAML"),
        ("3: 4\n", "'3' stands where a key"),
        ("name: trial\n", "'method': field required"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"bad\.yaml") as caught:
        load_config(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_folder_and_binary_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x80")
    for path, message in (
        (tmp_path / "none.yaml", "see configs/"),
        (tmp_path, "folder"),
        (tmp_path / "binary.yaml", "YAML"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_config(path)


def test_assignments_make_missing_sections() -> None:
    tree: dict[str, object] = {}
    set_key(tree, "a.b.c=[1, two]")
    assert tree == {"a": {"b": {"c": [1, "two"]}}}
    set_key(tree, "a.text=x=y")
    assert tree["a"]["text"] == "x=y"  # type: ignore[index]


def test_the_nearest_word_or_all_of_them() -> None:
    assert nearest("colums", ["rows", "columns"]) == "did you mean 'columns'?"
    assert nearest("xyz", ["b", "a"]) == "known: a, b"


def test_every_number_that_has_a_unit_or_range_is_described() -> None:
    """The description is the help text of `mien train`; names alone do not tell pixels from shares."""
    for name, field in RunConfig.model_fields["data"].annotation.model_fields.items():  # type: ignore[union-attr]
        assert field.description or name in ("root",), name


@pytest.mark.parametrize("word", ["off", "on", "yes", "no", "Off"])
def test_only_true_and_false_are_truth_values(word: str) -> None:
    assert parse_yaml(f"dropping: {word}", "here") == {"dropping": word}
    assert parse_yaml("[true, False, TRUE, 1.5, null]", "here") == [True, False, True, 1.5, None]
