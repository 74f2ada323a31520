"""Datasets on disk to records: `READERS` by name; see `mien.data.protocols` for what is then done with them."""

from mien.data.diffusionfer import READER as DIFFUSIONFER
from mien.data.fer2013 import READER as FER2013
from mien.data.ferplus import READER as FERPLUS
from mien.data.folder import READER as FOLDER
from mien.data.manifest import READER as MANIFEST
from mien.data.reader import Reader

READERS: dict[str, Reader] = {
    "ferplus": FERPLUS,
    "fer2013": FER2013,
    "diffusionfer": DIFFUSIONFER,
    "folder": FOLDER,
    "manifest": MANIFEST,
}

__all__ = ["READERS", "Reader"]
