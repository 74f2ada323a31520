"""The configuration of a training run: method, data, optimiser and schedule."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from mien.config import Frozen, checked, read_tree
from mien.data.config import DataConfig
from mien.errors import ConfigError
from mien.labels import OWN, label_set


class OptimConfig(Frozen):
    """The optimiser, with one schedule for all turns: linear warm-up, then cosine to zero."""

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
    """Everything that determines a training run, except the content of the data."""

    name: str = Field(description="name of the run folder")
    method: dict[str, Any] = Field(
        description="`name` is a key of mien.methods.METHODS; the rest goes to its Config"
    )
    start: Path | None = Field(
        None,
        description="weights to start from: a checkpoint, an .onnx file of `mien release`, or `shipped` for the "
        "recogniser inside the package",
    )
    start_part: Literal["whole", "backbone"] = Field(
        "whole",
        description="which of its weights to load: all (same method), or only the backbone (any method)",
    )
    labels: tuple[str, ...] | None = Field(
        None,
        description="own labels instead of the eight: a list of names, or `own` for the folders' or manifest's names",
    )
    data: DataConfig
    optim: OptimConfig = OptimConfig()
    epochs: int = Field(10, ge=1)
    validation: Literal["epochs", "end"] = Field(
        "epochs",
        description="when to evaluate the validation pictures: after each epoch (the best weights are kept), or only "
        "after the last (the last weights are kept)",
    )
    batch: int = Field(64, ge=1, description="images per step, over all processes; 256 keeps a GPU busy")
    compile: bool = Field(
        False,
        description="compile the network with torch.compile: a minute at the start, faster steps on a GPU",
    )
    seed: int = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    channels_last: bool = True
    norms: Literal["batch", "frozen"] = Field(
        "batch",
        description="batch norm statistics: from each batch, or estimated once at the start and then frozen (faster)",
    )
    threads: int | None = Field(None, ge=1, description="None takes all of the affinity mask")
    mixup: float = Field(0.0, ge=0, description="Beta parameter; 0 turns mixup off")
    smoothing: float = Field(0.0, ge=0, lt=1, description="label smoothing")
    select: str = Field(
        "accuracy", description="validation metric that selects the epoch with the weights that are kept"
    )
    patience: int | None = Field(None, ge=1, description="stop after this many epochs without a better one")
    runs: Path = Path("runs")

    @field_validator("labels", mode="before")
    @classmethod
    def _labels(cls, given: Any) -> Any:
        """`own` stays as it is until the data are read, see `mien.data.cropping.label_names`."""
        if given is None or given in (OWN, [OWN], (OWN,)):
            return None if given is None else (OWN,)
        if not isinstance(given, list | tuple):
            raise ValueError(f"write a list of names, or {OWN}")
        try:
            return label_set(given, "labels")
        except ConfigError as problem:
            raise ValueError(str(problem).removeprefix("labels: ")) from None

    @model_validator(mode="after")
    def _patience_needs_epochs(self) -> RunConfig:
        if self.patience is not None and self.validation == "end":
            raise ValueError("patience counts judged epochs, and validation: end judges none before the last")
        return self


def load_config(path: Path | str, assignments: list[str] | None = None) -> RunConfig:
    """Read a run configuration from YAML, apply assignments, and check it.

    Raises:
        ConfigError: the file is missing or not YAML, or a key or value is wrong.
    """
    tree = read_tree(path, assignments)
    return checked(RunConfig, tree, str(path))
