"""The configuration of data: which sets to read, under which protocol, and how crops are made and augmented."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from mien.config import Frozen


class SourceConfig(Frozen):
    """One dataset: its reader, folder and protocol."""

    reader: str = Field(description="a name in mien.data.readers.READERS")
    root: Path = Field(description="the dataset's folder")
    protocol: str | None = Field(
        None, description="a name in mien/data/protocol_files; None takes every record"
    )
    fold: int = Field(0, ge=0, description="the tested fold of a protocol with folds")
    where: tuple[Annotated[str, Field(pattern="^[^=]+=")], ...] = Field(
        (), description="only pictures with these attributes, e.g. [part=lfw]"
    )
    points: Path | None = Field(
        None,
        description="an .npz of `names` and `points` [n, 112, 2]; None uses the shipped landmark network",
    )
    faces: Literal["whole", "find"] | None = Field(
        None,
        description="whole: pictures without a box are already cropped to the face; find: detect the largest face "
        "first, as prediction does. None means find for own labels, and whole for sets with the eight",
    )
    repeat: float = Field(
        1.0, gt=0, description="how often each training picture is drawn per epoch, on average"
    )
    weight: float = Field(
        1.0, gt=0, description="weight of each picture's expression loss, relative to other sets"
    )


class DataConfig(SourceConfig):
    """The set for training and validation, further training sets, and how crops are made and augmented."""

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
        True, description="leave out training images with pixels that are also in valid or test"
    )
    balance: float = Field(0.0, ge=0, le=1, description="0 natural sampling, 1 every class equally often")
    soft_votes: bool = Field(True, description="train on vote shares where the set has them")
    teachers: tuple[Path, ...] = Field(
        (),
        description="predictions.parquet of models on the training split; their mean shares mix with the votes",
    )
    teaching: float = Field(0.5, ge=0, le=1, description="weight of the teachers' shares against the votes")
    label_noise: float = Field(
        0.0, ge=0, lt=1, description="share of the training pictures that get a wrong label, to test a method"
    )
    mirror: bool = Field(True, description="mirror half of the training crops")
    rotate: float = Field(12.0, ge=0, le=180, description="rotation, plus or minus degrees")
    scale: float = Field(0.12, ge=0, lt=1, description="zoom, plus or minus this share")
    shift: float = Field(0.06, ge=0, lt=1, description="translation, plus or minus this share of the side")
    light: float = Field(0.3, ge=0, le=1, description="brightness and contrast, plus or minus this share")
    soften: float = Field(0.5, ge=0, le=1, description="share of crops that get a lower resolution")
    erase: float = Field(
        0.3, ge=0, le=1, description="probability of blanking a rectangle of 2-20 % of the crop"
    )
    gamma: float = Field(0.0, ge=0, le=2, description="exponent of a tone curve, e to plus or minus this")
    shade: float = Field(
        0.0, ge=0, le=1, description="side light: brightness falls across the crop by up to this"
    )
    sharpen: float = Field(0.0, ge=0, le=1, description="share of crops that are sharpened")
    noise: float = Field(0.0, ge=0, le=0.2, description="standard deviation of sensor noise, up to this")
    limit: int | None = Field(
        None,
        ge=1,
        description="use only this many training pictures of each set, evenly picked from its crops",
    )
