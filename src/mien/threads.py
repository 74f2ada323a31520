"""How many threads this process may use, and an ONNX Runtime session that keeps to that number.

ONNX Runtime sizes its thread pool by the machine and lets idle threads spin. Pinned to one core of many (a container, a
batch scheduler, `taskset`) its threads then fight each other for that core, and the answer comes several times later.
Here the number comes from the process's affinity mask, and nothing spins.
"""

from __future__ import annotations

import os
from typing import Any


def available() -> int:
    """The number of processors this process may run on: its affinity mask where the system has one."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def session(model: bytes | str, threads: int | None = None) -> Any:
    """Open an `onnxruntime.InferenceSession` on the processor with `threads` threads; None takes `available()`.

    `model` is the file's bytes (already read, for a hash) or its path.

    Raises:
        WeightsError: ONNX Runtime cannot read the model.
    """
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as runtime

    from mien.errors import WeightsError

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or available()
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except (
        runtime.Fail,
        runtime.InvalidArgument,
        runtime.InvalidGraph,
        runtime.InvalidProtobuf,
        runtime.NoSuchFile,
        runtime.NotImplemented,
    ) as problem:
        first = str(problem).splitlines()[0]
        raise WeightsError(
            f"ONNX Runtime cannot open the model ({first}): use a file exported by mien"
        ) from None
