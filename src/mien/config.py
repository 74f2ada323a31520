"""Configuration is a value: read once from YAML and `--set a.b=c`, checked, frozen, and stored with every result."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from mien.errors import ConfigError
from mien.errors import nearest as nearest
from mien.labels import OWN, label_set


class Frozen(BaseModel):
    """A pydantic model that rejects unknown keys and cannot be written to."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceConfig(Frozen):
    """One dataset: which reader, where, under which protocol."""

    reader: str = Field(description="a name in mien.data.READERS")
    root: Path = Field(description="the dataset's folder")
    protocol: str | None = Field(None, description="a name in mien/protocols; None takes every record")
    fold: int = Field(0, ge=0, description="the tested fold of a protocol with folds")
    points: Path | None = Field(
        None,
        description="an .npz of `names` and `points` [n, 112, 2]; None asks the shipped landmark network",
    )
    faces: Literal["whole", "find"] | None = Field(
        None,
        description="whole: pictures without a box are cut to the face already; find: look for the largest face first, "
        "as prediction does. None finds faces for own labels, and takes the sets of the eight whole",
    )
    repeat: float = Field(1.0, gt=0, description="how often an epoch draws each training picture, on average")
    weight: float = Field(1.0, gt=0, description="of each picture's expression loss, against other sets'")


class DataConfig(SourceConfig):
    """The set that is learnt and validated on, more sets to learn from, and how crops are made and augmented."""

    also: tuple[SourceConfig, ...] = Field((), description="further sets; only their training part is used")
    vote_affect: bool = Field(
        True,
        description="derive valence and arousal from votes (mean circumplex prototype) where a set has none",
    )
    colour: bool = Field(False, description="keep RGB; False trains on luma, as most sets are grey")
    size: int = Field(80, ge=32, le=512, description="side of the square network input, pixels")
    cache: Path = Field(
        Path("cache"), description="where decoded, aligned crops are kept (memory-mapped uint8)"
    )
    drop_duplicates: bool = Field(
        True, description="leave out training images whose pixels stand in valid or test"
    )
    balance: float = Field(0.0, ge=0, le=1, description="0 natural sampling, 1 every class equally often")
    soft_votes: bool = Field(True, description="train on vote shares where the set has them")
    teachers: tuple[Path, ...] = Field(
        (),
        description="predictions.parquet of models on the training split; their mean shares mix with the votes",
    )
    teaching: float = Field(0.5, ge=0, le=1, description="weight of the teachers' shares against the votes")
    mirror: bool = Field(True, description="mirror half of the training crops")
    rotate: float = Field(12.0, ge=0, le=180, description="rotation, plus or minus degrees")
    scale: float = Field(0.12, ge=0, lt=1, description="zoom, plus or minus this share")
    shift: float = Field(0.06, ge=0, lt=1, description="translation, plus or minus this share of the side")
    light: float = Field(0.3, ge=0, le=1, description="brightness and contrast, plus or minus this share")
    soften: float = Field(0.5, ge=0, le=1, description="share of crops whose resolution is lowered")
    erase: float = Field(
        0.3, ge=0, le=1, description="probability of blanking a rectangle of 2-20 % of the crop"
    )
    gamma: float = Field(0.0, ge=0, le=2, description="exponent of a tone curve, e to plus or minus this")
    shade: float = Field(
        0.0, ge=0, le=1, description="side light: brightness falls across the crop by up to this"
    )
    sharpen: float = Field(0.0, ge=0, le=1, description="share of crops that are sharpened")
    noise: float = Field(0.0, ge=0, le=0.2, description="standard deviation of sensor noise, up to this")
    limit: int | None = Field(None, ge=1, description="use only this many training records (for trials)")


class OptimConfig(Frozen):
    """One schedule for all players: linear warm-up, then cosine to zero."""

    name: Literal["adamw", "sgd"] = "adamw"
    rate: float = Field(1e-3, gt=0, description="peak learning rate of new layers")
    backbone_rate: float = Field(1.0, ge=0, description="multiplies `rate` for pretrained parameters")
    weight_decay: float = Field(0.02, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = Field(
        (0.9, 0.999), description="AdamW's two decays; with weight_decay 0 it is Adam"
    )
    warmup: float = Field(0.05, ge=0, le=1, description="share of all steps")
    clip: float | None = Field(5.0, gt=0, description="largest gradient norm")
    ema: float | None = Field(
        0.999, gt=0, lt=1, description="decay of the weight average; None trains without"
    )


class RunConfig(Frozen):
    """Everything that decides a training run, apart from the data's bytes."""

    name: str = Field(description="names the run folder")
    method: dict[str, Any] = Field(
        description="`name` is a key of mien.methods.METHODS; the rest goes to its Config"
    )
    start: Path | None = Field(None, description="a checkpoint to start from")
    start_part: Literal["whole", "backbone"] = Field(
        "whole",
        description="what is taken of it: all of the same method's, or the backbone alone of any method's",
    )
    labels: tuple[str, ...] | None = Field(
        None,
        description="own labels in place of the eight: a list of names, or `own` for the folders' or manifest's names",
    )
    data: DataConfig
    optim: OptimConfig = OptimConfig()
    epochs: int = Field(10, ge=1)
    batch: int = Field(64, ge=1, description="images a step, over all processes")
    seed: int = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    channels_last: bool = True
    norms: Literal["batch", "frozen"] = Field(
        "batch",
        description="statistics of batch norms: of each batch, or estimated once at the start and then kept (faster)",
    )
    threads: int | None = Field(None, ge=1, description="None takes all of the affinity mask")
    mixup: float = Field(0.0, ge=0, description="Beta parameter; 0 turns mixup off")
    smoothing: float = Field(0.0, ge=0, lt=1, description="label smoothing")
    select: str = Field("accuracy", description="validation metric that chooses the kept weights")
    patience: int | None = Field(None, ge=1, description="stop after this many epochs without a better one")
    runs: Path = Path("runs")

    @field_validator("labels", mode="before")
    @classmethod
    def _labels(cls, given: Any) -> Any:
        """`own` stays as it is until the data are read, see `mien.data.loaders.label_names`."""
        if given is None or given in (OWN, [OWN], (OWN,)):
            return None if given is None else (OWN,)
        if not isinstance(given, list | tuple):
            raise ValueError(f"write a list of names, or {OWN}")
        try:
            return label_set(given, "labels")
        except ConfigError as problem:
            raise ValueError(str(problem).removeprefix("labels: ")) from None


DEEPEST = 32
"""Levels of brackets taken in YAML."""


class _Loader(yaml.SafeLoader):
    """Plain values only. Aliases are refused: nested, a few lines of them stand for more than memory holds. So are
    brackets within brackets within brackets: the time PyYAML takes grows with the square of their depth."""

    def fetch_flow_collection_start(self, token: Any) -> None:
        if self.flow_level >= DEEPEST:
            raise yaml.YAMLError(f"more than {DEEPEST} brackets within one another")
        super().fetch_flow_collection_start(token)

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not taken: write the value out")
        return super().compose_node(parent, index)


# YAML 1.1 reads off, on, yes and no as truth values; methods have switches whose values are called off. As in YAML 1.2,
# only true and false are truth values here.
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
    # A date that does not exist, a tag that does not fit its value, too many digits, or a thousand brackets: the
    # constructors of PyYAML raise whatever Python raises.
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


def explain(problem: ValidationError, model: type[BaseModel], source: str) -> ConfigError:
    """Turn pydantic's report into one line that names the key and the remedy."""
    first = problem.errors()[0]
    location = [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        owner: Any = model
        for part in first["loc"][:-1]:
            if isinstance(part, int):  # the place in a list, whose element type the step before has found
                continue
            annotation = owner.model_fields[part].annotation
            # tuple[Section, ...] holds its sections' type as first argument.
            owner = next(iter(get_args(annotation)), annotation)
        return ConfigError(
            f"{source}: no key '{'.'.join(location)}': {nearest(location[-1], list(owner.model_fields))}"
        )
    said = first["msg"]
    # What a person wrote and our own validators repeat keeps its case.
    said = said[:1].lower() + said[1:] if first["type"] == "value_error" else said.lower()
    return ConfigError(f"{source}: '{'.'.join(location)}': {said}")


def read_tree(path: Path | str, assignments: list[str] | None = None) -> dict[str, Any]:
    """Read a configuration from YAML and apply assignments; its keys are not checked.

    Raises:
        ConfigError: the file is missing or not a YAML mapping, or an assignment is none.
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
    for assignment in assignments or []:
        set_key(tree, assignment)
    return tree


def load_config(path: Path | str, assignments: list[str] | None = None) -> RunConfig:
    """Read a run configuration from YAML, apply assignments, and check it.

    Raises:
        ConfigError: the file is missing or not YAML, or a key or value is wrong.
    """
    tree = read_tree(path, assignments)
    try:
        return RunConfig(**tree)
    except ValidationError as problem:
        raise explain(problem, RunConfig, str(path)) from None
    except TypeError as problem:
        raise ConfigError(f"{path}: {problem}") from None
