"""What this build is and what it runs on."""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np

from fastcnn import _core
from fastcnn.functional._arguments import integer

# What the core's switches can be; others do nothing, which nobody would notice.
_SWITCHES = {"FASTCNN_VERBOSE": ("", "0", "dispatch"), "FASTCNN_POISON": ("", "0", "1")}


def check_environment() -> None:
    """A warning for each switch with a value that is none. (An unknown FASTCNN_ISA is an error at first use.)"""
    for name, known in _SWITCHES.items():
        value = os.environ.get(name, "")
        if value not in known:
            text = f"{name}: expected {' or '.join(known[1:])}, got {value!r}"
            warnings.warn_explicit(
                text, UserWarning, "environment", 1
            )  # one line: there is no source to show


def set_num_threads(n: int) -> None:
    """Threads that the core uses from now on. The results do not depend on it.

    Raises
    ------
    TypeError
        n is no integer.
    ValueError
        n is not from 1 to 4096.
    """
    threads = integer("set_num_threads", "n", n)
    if not 1 <= threads <= 4096:
        raise ValueError(f"set_num_threads: expected a number from 1 to 4096, got {threads}")
    _core.set_num_threads(threads)


def get_num_threads() -> int:
    """Threads that the core uses: see `set_num_threads`; at first what ``fastcnn.info()["threads_reason"]`` says."""
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
    if not hasattr(array, "__dlpack__"):
        raise TypeError(f"from_dlpack: expected an array that speaks DLPack, got {type(array).__name__}")
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
