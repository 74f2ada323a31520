"""Write drawn faces and a table of them. Usage: make.py OUT [csv|parquet]"""

from __future__ import annotations

import sys
from pathlib import Path

from mien.data.readers import manifest
from mien.data.synthetic import drawings


def make(root: Path, variant: str = "csv") -> None:
    """Write 40 faces and manifest.csv or manifest.parquet."""
    records = drawings.records(root / "faces", count=40, seed=9, size=48, subjects=5)
    manifest.write(records, root / f"manifest.{variant}")


if __name__ == "__main__":
    make(Path(sys.argv[1]), *sys.argv[2:3])
