"""Readers that turn datasets on disk into records, by name in `READERS`; `mien.data.protocols` then selects from them.

Tests: `base`, `afewva`, `affectnet`, `affwild`, `affwild2`, `bp4d`, `ckplus`, `diffusionfer`, `disfa`, `fer2013`,
`ferplus`, `folder`, `manifest`, `rafdb` and `sfew` in tests/data/test_readers.py, on a miniature of each set's real
layout.
"""

from mien.data.readers.afewva import READER as AFEWVA
from mien.data.readers.affectnet import READER as AFFECTNET
from mien.data.readers.affwild import READER as AFFWILD
from mien.data.readers.affwild2 import READER as AFFWILD2
from mien.data.readers.base import Reader
from mien.data.readers.bp4d import READER as BP4D
from mien.data.readers.ckplus import READER as CKPLUS
from mien.data.readers.diffusionfer import READER as DIFFUSIONFER
from mien.data.readers.disfa import READER as DISFA
from mien.data.readers.fer2013 import READER as FER2013
from mien.data.readers.ferplus import READER as FERPLUS
from mien.data.readers.folder import READER as FOLDER
from mien.data.readers.manifest import READER as MANIFEST
from mien.data.readers.rafdb import READER as RAFDB
from mien.data.readers.rendered import READER as RENDERED
from mien.data.readers.sfew import READER as SFEW

READERS: dict[str, Reader] = {
    "ferplus": FERPLUS,
    "fer2013": FER2013,
    "rafdb": RAFDB,
    "affectnet": AFFECTNET,
    "sfew": SFEW,
    "ckplus": CKPLUS,
    "afewva": AFEWVA,
    "affwild": AFFWILD,
    "affwild2": AFFWILD2,
    "disfa": DISFA,
    "bp4d": BP4D,
    "diffusionfer": DIFFUSIONFER,
    "rendered": RENDERED,
    "folder": FOLDER,
    "manifest": MANIFEST,
}
"""Every reader, specific ones before general ones: `mien data check` uses the first that recognises a folder."""

__all__ = ["READERS", "Reader"]
