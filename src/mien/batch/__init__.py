"""Many pictures on many processors and machines: any number of pictures in, a folder of Parquet files out.

`inputs` lists the pictures, `plan` cuts the list into parts and remembers it beside the table, `worker` turns one part
into one file, `driver` has Ray Data run the workers, and `engine` puts it all together. `stores` is where files are:
this machine, or a URL.
"""

from mien.batch.engine import Summary, run
from mien.batch.storage import BatchError

__all__ = ["BatchError", "Summary", "run"]
