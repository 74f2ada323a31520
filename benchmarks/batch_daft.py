"""The workers of `mien batch` on Daft instead of Ray Data; run by `batch.py --daft`, to compare the engines.

python benchmarks/batch_daft.py FOLDER OUT WORKERS
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import daft

from mien.batch import inputs, plan
from mien.batch.storage import Store
from mien.batch.worker import Job, Ledger, Worker


@daft.cls(max_concurrency=int(sys.argv[3]), use_process=True)
class Workers:
    """Each in a process of its own, as with Ray."""

    def __init__(self, out: str) -> None:
        self._worker = Worker(Job(out, str(Path.cwd()), {}, "pyfeat", "row"), Ledger())

    @daft.method(return_dtype=daft.DataType.string())
    def __call__(self, number: int, pictures: str) -> str:
        """Do a part."""
        return json.dumps(self._worker(number, json.loads(pictures)))


def main() -> None:
    """Do all parts of a folder."""
    store = Store(sys.argv[2])
    store.make(plan.FOLDER)
    plan.claim(store, {})
    names = inputs.pictures([sys.argv[1]])
    parts = plan.extend(store, [], names, plan.size_for(len(names)))
    table = daft.from_pydict(
        {
            "number": [part.number for part in parts],
            "pictures": [json.dumps(part.pictures) for part in parts],
        }
    ).into_batches(1)
    done = table.select(Workers(sys.argv[2])(table["number"], table["pictures"]).alias("done")).to_pydict()
    failures = [one["failure"] for one in map(json.loads, done["done"]) if one["failure"]]
    if failures or plan.finished(store) != {part.digest for part in parts}:
        sys.exit(f"not done: {failures[:1]}")


if __name__ == "__main__":
    main()
