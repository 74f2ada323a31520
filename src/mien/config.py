"""Read and check configurations from YAML and `--set a.b=c`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from mien.errors import ConfigError, nearest

Checked = TypeVar("Checked", bound=BaseModel)


class Frozen(BaseModel):
    """An immutable pydantic model that rejects unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


DEEPEST = 32
"""Deepest nesting of brackets accepted in YAML."""


class _Loader(yaml.SafeLoader):
    """Plain values only. Aliases are refused, as a few nested ones can expand to more than memory holds; so is deep
    nesting of brackets, as PyYAML's time grows with the square of the depth."""

    def fetch_flow_collection_start(self, token: Any) -> None:
        if self.flow_level >= DEEPEST:
            raise yaml.YAMLError(f"more than {DEEPEST} brackets within one another")
        super().fetch_flow_collection_start(token)

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not taken: write the value out")
        return super().compose_node(parent, index)


# YAML 1.1 reads off, on, yes and no as truth values; some methods have options with the value "off". As in YAML 1.2,
# only true and false are booleans here.
_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool" or first in "tTfF"
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse_yaml(text: str, what: str) -> Any:
    """Read YAML as plain values: dicts, lists, words, numbers, dates.

    Raises:
        ConfigError: not YAML; the message begins with `what`.
    """
    try:
        return yaml.load(text, _Loader)
    # The constructors of PyYAML do not catch Python's errors for invalid dates, wrong tags, too many digits or deep
    # nesting.
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError) as problem:
        first = next(iter(str(problem).splitlines()), type(problem).__name__)
        raise ConfigError(f"{what} not YAML: {first}") from None


def set_key(tree: dict[str, Any], assignment: str) -> None:
    """Apply one `a.b=value` to a nested dict; the value is read as YAML."""
    key, sign, text = assignment.partition("=")
    if not sign or not all(part.strip() for part in key.split(".")):
        raise ConfigError(f"'{assignment}' is not an assignment: write it as section.key=value")
    *parents, last = key.strip().split(".")
    node = tree
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(f"'{assignment}': '{parent}' is a value, not a section")
        node = child
    node[last] = parse_yaml(text, f"'{assignment}': the value is")


def checked(model: type[Checked], tree: dict[str, Any], source: str) -> Checked:
    """The configuration of a tree that was read from `source`.

    Raises:
        ConfigError: a key or value is wrong; see `explain`.
    """
    try:
        return model(**tree)
    except ValidationError as problem:
        raise explain(problem, model, source) from None
    except TypeError as problem:  # a key is no text
        raise ConfigError(f"{source}: {problem}") from None


def explain(problem: ValidationError, model: type[BaseModel], source: str) -> ConfigError:
    """Turn pydantic's report into one line that names the key and the remedy."""
    first = problem.errors()[0]
    location = [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        owner: Any = model
        for part in first["loc"][:-1]:
            if isinstance(part, int):  # the index in a list; its element type is known from the step before
                continue
            annotation = owner.model_fields[part].annotation
            # tuple[Section, ...] has the section's type as first argument.
            owner = next(iter(get_args(annotation)), annotation)
        return ConfigError(
            f"{source}: no key '{'.'.join(location)}': {nearest(location[-1], list(owner.model_fields))}"
        )
    if first["type"] == "literal_error":
        known = re.findall("'([^']*)'", first["ctx"]["expected"])
        return ConfigError(
            f"{source}: '{'.'.join(location)}': no '{first['input']}': {nearest(str(first['input']), known)}"
        )
    message = first["msg"]
    # Our own validators quote the user's text, so its case is kept.
    message = message[:1].lower() + message[1:] if first["type"] == "value_error" else message.lower()
    return ConfigError(f"{source}: '{'.'.join(location)}': {message}")


def read_tree(path: Path | str, assignments: list[str] | None = None) -> dict[str, Any]:
    """Read a configuration from YAML and apply assignments; its keys are not checked.

    Raises:
        ConfigError: the file is missing or not a YAML mapping, or an assignment is malformed.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such configuration: see configs/ for the ones that ship") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder: name a .yaml file in it") from None
    except OSError as problem:
        raise ConfigError(f"{path}: cannot be read: {(problem.strerror or str(problem)).lower()}") from None
    except UnicodeDecodeError as problem:
        raise ConfigError(f"{path}: not YAML: {problem}") from None
    tree = parse_yaml(text, f"{path}:")
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: a configuration is a mapping of keys, see configs/tiny.yaml")
    for key in tree:
        if not isinstance(key, str):
            raise ConfigError(f"{path}: '{key}' stands where a key's name should: see configs/tiny.yaml")
    for assignment in assignments or []:
        set_key(tree, assignment)
    return tree
