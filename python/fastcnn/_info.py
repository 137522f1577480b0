"""What this build is and what it runs on."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn import _core


def set_num_threads(n: int) -> None:
    """Threads that the core uses from now on. The results do not depend on it.

    Raises
    ------
    ValueError
        n is not from 1 to 4096.
    """
    _core.set_num_threads(int(n))


def get_num_threads() -> int:
    return _core.get_num_threads()


def info() -> dict[str, Any]:
    """Version, compiler, instruction sets (compiled in, usable, chosen), threads and why, OpenMP runtime, CUDA.

    >>> sorted(info())[:3]
    ['compiler', 'cpu', 'cuda']
    """
    default, why = _core.default_threads()
    threads = _core.get_num_threads()
    return {
        "version": _core.__version__,
        "compiler": _core.compiler(),
        "cpu": _core.cpu_name(),
        "instruction_sets_compiled": _core.compiled_isas(),
        "instruction_sets_usable": _core.available_isas(),
        "instruction_set": _core.isa(),
        "threads": threads,
        "threads_reason": why
        if threads == default
        else f"set_num_threads({threads}); default {default}, {why}",
        "openmp": _core.openmp_runtime(),
        "cuda": False,
    }


def from_dlpack(array: Any) -> Any:
    """A :class:`Tensor` over the memory of any CPU array that speaks DLPack (PyTorch, JAX, NumPy), without a copy.

    Raises
    ------
    TypeError
        The element type is none of float32, int64, int32, uint8.
    ValueError
        The array is not contiguous or not writable.
    """
    if isinstance(array, np.ndarray):
        return _core.tensor_view(array)
    # NumPy marks what comes without a read-only flag as read-only: all before 2.1, unversioned capsules since.
    flagged = np.lib.NumpyVersion(np.__version__) >= "2.1.0" and _is_versioned(array)
    return _core.tensor_view(np.from_dlpack(array), trust=not flagged)


def _is_versioned(array: Any) -> bool:
    """Whether the array's owner speaks DLPack 1, which says if it may be written."""
    try:
        return "versioned" in repr(array.__dlpack__(max_version=(1, 0)))
    except TypeError:
        return False
