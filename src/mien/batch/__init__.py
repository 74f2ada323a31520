"""Analyse any number of pictures on many processors and machines, into a folder of Parquet files.

`inputs` lists the pictures, `plan` cuts the list into parts and stores it beside the table, `worker` turns one part
into one file, `driver` lets Ray Data run the workers, and `engine` connects them. `storage` reads and writes files on
this machine or behind a URL.

Tests: `inputs`, `plan`, `storage` and `worker` in tests/batch/test_batch.py; `driver` and `engine` there and, with Ray,
in tests/batch/test_batch_ray.py.
"""

from mien.batch.engine import Summary, run
from mien.batch.storage import BatchError

__all__ = ["BatchError", "Summary", "run"]
