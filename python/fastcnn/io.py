"""Model files: safetensors, with the architecture in the header, so that a file alone is enough to predict.

A file is written whole or not at all, and a reader trusts nothing in it: sizes are checked before anything is
built, and class names are only looked up in fixed tables.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastcnn._files import write_whole
from fastcnn.data.arrays import Preprocessing
from fastcnn.functional._arguments import shape_of
from fastcnn.models.tree import build, describe
from fastcnn.nn import Module

__all__ = ["SavedModel", "load", "load_weights", "read", "save", "save_weights"]

_FORMAT = 1
_KEY = "fastcnn"  # the one entry of the header's metadata
_DTYPES: dict[str, np.dtype] = {"F32": np.dtype("<f4"), "I64": np.dtype("<i8")}
_FIELDS = {"format", "version", "architecture", "input_shape", "classes", "preprocessing"}
_MAX_SIDE = 1 << 20


@dataclasses.dataclass(frozen=True)
class SavedModel:
    """What a model file holds.

    Parameters
    ----------
    model : Module
        In evaluation mode.
    input_shape : tuple of int or None
        Of one input, without the batch: (C, H, W) for images.
    classes : tuple of str or None
        The classes' names, in the order of the outputs.
    preprocessing : Preprocessing or None
        What turns pixels into network input.
    version : str
        The version of fastcnn that wrote it.
    """

    model: Module
    input_shape: tuple[int, ...] | None
    classes: tuple[str, ...] | None
    preprocessing: Preprocessing | None
    version: str


def save(
    model: Module,
    path: str | os.PathLike[str],
    *,
    input_shape: Sequence[int] | None = None,
    classes: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
) -> None:
    """Write a model: weights, architecture, and what is needed to predict.

    Parameters
    ----------
    model : Module
        A network of `fastcnn.models`, library layers inside `Sequential`, or any class of your own: its
        ``forward`` is then recorded, and the file predicts (and trains on) without the class, for this input
        shape.
    path : path of the file, usually ending in ``.safetensors``
    input_shape : (C, H, W), optional
        Default: that of the model's last call. A recording needs one.
    classes : sequence of str, optional
    preprocessing : Preprocessing, optional

    Raises
    ------
    ValueError
        When the architecture cannot be written down; use `save_weights` then.
    OSError
        When the file cannot be written; what was there before is then unchanged.
    """
    from fastcnn import __version__

    shape = model.last_input_shape if input_shape is None else shape_of("save", input_shape)
    entry = {
        "format": _FORMAT,
        "version": __version__,
        "architecture": describe(model, shape),
        "input_shape": None if shape is None else [int(n) for n in shape],
        "classes": None if classes is None else [str(c) for c in classes],
        "preprocessing": None if preprocessing is None else preprocessing.to_dict(),
    }
    _described(entry, "save")  # what is written can be read
    _write(path, model.state_dict(), {_KEY: json.dumps(entry, sort_keys=True)})


def save_weights(model: Module, path: str | os.PathLike[str]) -> None:
    """Write only the named arrays of `model.state_dict()`."""
    _write(path, model.state_dict(), {})


def load(path: str | os.PathLike[str]) -> Module:
    """Read a model that `save` wrote, in evaluation mode. `read` also gives classes and preprocessing.

    Raises
    ------
    ValueError
        When the file is damaged or not a model file.
    OSError
        When it cannot be opened.
    """
    return read(path).model


def read(path: str | os.PathLike[str]) -> SavedModel:
    """Read everything that `save` wrote; errors as in `load`."""
    tensors, metadata = _read(path)
    if _KEY not in metadata:
        raise ValueError(
            f"{path}: holds weights but no architecture; build the network and use fastcnn.load_weights"
        )
    entry = _described(_json(metadata[_KEY], f"{path}: the architecture"), str(path))
    try:
        model = build(entry["architecture"], tensors)
        _check_types(model, tensors)
        model.load_state_dict(tensors)
        model.eval()
    except MemoryError:
        raise
    except Exception as e:
        raise ValueError(f"{path}: the architecture and the weights do not fit ({e})") from None
    shape, classes = (None if v is None else tuple(v) for v in (entry["input_shape"], entry["classes"]))
    stored = entry["preprocessing"]
    preprocessing = None if stored is None else Preprocessing.from_dict(stored)
    return SavedModel(model, shape, classes, preprocessing, entry["version"])


def load_weights(model: Module, path: str | os.PathLike[str]) -> None:
    """Read named arrays into a model that has exactly these names and shapes.

    Raises
    ------
    ValueError
        When the file is damaged, or names and shapes differ; the model is then unchanged.
    """
    tensors, _ = _read(path)
    _check_types(model, tensors)
    model.load_state_dict(tensors)


def _check_types(model: Module, tensors: Mapping[str, np.ndarray]) -> None:
    for name, value in model.state_dict().items():
        if name in tensors and tensors[name].dtype != value.dtype:
            raise ValueError(f"{name}: expected {value.dtype}, got {tensors[name].dtype}")


def _write(path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray], metadata: dict[str, str]) -> None:
    from safetensors.numpy import save as encode

    packed = {}
    for name, value in tensors.items():
        value = np.asarray(value)
        if value.dtype not in (np.float32, np.int64):
            raise ValueError(f"{name}: expected float32 or int64, got {value.dtype}")
        packed[name] = np.asarray(value, order="C")
    write_whole(path, encode(packed, metadata))


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors and metadata; the arrays are views of the bytes read."""
    from safetensors import SafetensorError, deserialize

    data = Path(path).read_bytes()
    try:
        entries: Any = deserialize(data)
    except (SafetensorError, ValueError, TypeError) as e:
        raise ValueError(f"{path}: not a safetensors file ({e})") from None
    tensors = {}
    for name, entry in entries:
        if entry["dtype"] not in _DTYPES:
            raise ValueError(f"{path}: {name}: expected F32 or I64, got {entry['dtype']}")
        if 0 in entry["shape"]:
            raise ValueError(f"{path}: {name}: shape {entry['shape']} holds nothing")
        flat = np.frombuffer(entry["data"], _DTYPES[entry["dtype"]])
        try:
            tensors[name] = flat.reshape(entry["shape"])
        except (ValueError, OverflowError) as e:
            raise ValueError(f"{path}: {name}: {e}") from None
    header = _json(data[8 : 8 + int.from_bytes(data[:8], "little")], f"{path}: the header")
    metadata = header.get("__metadata__") or {}
    return tensors, metadata


def _json(text: str | bytes, what: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise ValueError(f"{what} is not JSON ({e})") from None
    if not isinstance(value, dict):
        raise ValueError(f"{what} is not a JSON object")
    return value


def _described(entry: dict[str, Any], where: str) -> dict[str, Any]:
    """The entry itself, once every field has its type."""
    if entry.get("format") != _FORMAT:
        raise ValueError(f"{where}: expected format {_FORMAT}, got {entry.get('format')!r:.50}")
    if set(entry) != _FIELDS:
        raise ValueError(f"{where}: expected the fields {sorted(_FIELDS)}, got {sorted(entry)!r:.200}")
    if not isinstance(entry["version"], str) or not isinstance(entry["architecture"], dict):
        raise ValueError(f"{where}: expected a version and an architecture")
    shape, classes = entry["input_shape"], entry["classes"]
    sizes = isinstance(shape, list) and 1 <= len(shape) <= 4 and all(map(_is_side, shape))
    if shape is not None and not sizes:
        raise ValueError(f"{where}: expected an input shape like (C, H, W), got {shape!r:.100}")
    if classes is not None and not (isinstance(classes, list) and all(isinstance(c, str) for c in classes)):
        raise ValueError(f"{where}: expected a list of class names, got {classes!r:.100}")
    if entry["preprocessing"] is not None:
        try:
            Preprocessing.from_dict(entry["preprocessing"])
        except (ValueError, TypeError) as e:
            raise ValueError(f"{where}: {e}") from None
    return entry


def _is_side(n: Any) -> bool:
    return isinstance(n, int) and not isinstance(n, bool) and 1 <= n <= _MAX_SIDE
