"""Model files: safetensors, with the architecture in the header, so that a file alone is enough to predict.

A file is written whole or not at all, and a reader trusts nothing in it: sizes are checked before anything is
built, and class names are only looked up in fixed tables.
"""

from __future__ import annotations

import dataclasses
import json
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastcnn._files import write_whole
from fastcnn.data.inputs import BATCH, outputs, probabilities
from fastcnn.data.preprocessing import Preprocessing
from fastcnn.functional._arguments import shape_of, shape_text
from fastcnn.models.tree import build, describe
from fastcnn.nn import Module

__all__ = ["SavedModel", "load", "load_weights", "read", "save", "save_weights"]

_FORMAT = 1
_KEY = "fastcnn"  # the one entry of the header's metadata
# Half precision, as others write it, is read as float32: that is exact.
_DTYPES: dict[str, np.dtype] = {
    "F32": np.dtype("<f4"), "I64": np.dtype("<i8"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2"),
}  # fmt: skip
_OTHERS = {  # how files of others begin
    b"PK\x03\x04": "a PyTorch file", b"\x80\x02": "a PyTorch file", b"\x89HDF": "a Keras file",
    b"\x89PNG": "an image", b"\xff\xd8\xff": "an image",
}  # fmt: skip
_ENDINGS = {  # of files that others read under this name
    ".h5": "Keras", ".hdf5": "Keras", ".keras": "Keras", ".onnx": "ONNX", ".pt": "torch.load", ".pth": "torch.load",
}  # fmt: skip
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

    def predict_proba(self, images: Any, batch_size: int = BATCH) -> np.ndarray:
        """Probability of each class (N, K), float32, of paths, pictures, arrays or a data set.

        See `fastcnn.data.inputs.probabilities`.
        """
        return probabilities(self.model, images, batch_size, self.input_shape)

    def predict(self, images: Any, batch_size: int = BATCH) -> np.ndarray:
        """The most probable class of each image (N,), int64, whose name is ``classes[k]``; see `predict_proba`."""
        return self.predict_proba(images, batch_size).argmax(axis=1)


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
        Default: that of the model's last call or training. A recording needs one.
    classes : sequence of str, optional
        Default: ``model.classes``, which training sets.
    preprocessing : Preprocessing, optional
        Default: ``model.preprocessing``, which training sets.

    Raises
    ------
    ValueError
        When the architecture cannot be written down (use `save_weights` then); when the network does not read inputs of
        this shape or has another number of classes.
    OSError
        When the file cannot be written; what was there before is then unchanged.
    """
    from fastcnn import __version__

    _check_model("save", model, path)
    if not isinstance(preprocessing, (Preprocessing, type(None))):
        raise TypeError(
            f"save: preprocessing must be a fastcnn.data.Preprocessing, got {preprocessing!r:.60}"
        )
    shape = model.last_input_shape if input_shape is None else _given_shape(input_shape)
    architecture = describe(model, shape)
    try:
        count = None if shape is None else outputs(model, shape)
    except (ValueError, TypeError) as e:
        if input_shape is not None:
            raise ValueError(
                f"save: the network does not read inputs of shape {shape_text(shape)}: {e}"
            ) from None
        shape = count = None  # it was changed since it ran
    names = _names(model, classes, count)
    preprocessing = model.preprocessing if preprocessing is None else preprocessing
    entry = {
        "format": _FORMAT,
        "version": __version__,
        "architecture": architecture,
        "input_shape": None if shape is None else list(shape),
        "classes": names,
        "preprocessing": None if preprocessing is None else preprocessing.to_dict(),
    }
    _described(entry, "save")  # what is written can be read
    _write(path, model.state_dict(), {_KEY: json.dumps(entry, sort_keys=True)})
    _warn_of_ending(path)


def _check_model(who: str, model: Any, path: Any) -> None:
    """The model comes first, then the path."""
    if isinstance(model, Module) and isinstance(path, (str, os.PathLike)):
        return
    if isinstance(path, Module):
        raise TypeError(f"{who}: expected the model first, then the path: {who}(model, path)")
    hint = "; of a state_dict no architecture is known: pass the model" if isinstance(model, Mapping) else ""
    got = type(path if isinstance(model, Module) else model).__name__
    raise TypeError(f"{who}: expected {who}(model, path), got {got}{hint}")


def _warn_of_ending(path: str | os.PathLike[str]) -> None:
    ending = Path(path).suffix.lower()
    if ending in _ENDINGS:
        text = (
            f"{os.fspath(path)}: written as safetensors, which {_ENDINGS[ending]} does not read: the usual ending is "
            ".safetensors"
        )
        warnings.warn(text, UserWarning, stacklevel=3)


def _given_shape(shape: Any) -> tuple[int, ...]:
    sizes = shape_of("save: input_shape", shape)
    if not 1 <= len(sizes) <= 3:
        raise ValueError(
            f"save: expected the input_shape of one input, without the batch, such as (1, 28, 28), got {sizes}"
        )
    return sizes


def _names(model: Module, classes: Any, count: int | None) -> list[str] | None:
    """The classes' names, one per output where it is known how many there are."""
    if isinstance(classes, str) or not isinstance(classes, (Iterable, type(None))):
        raise TypeError(f"save: classes must be a sequence of names, got {classes!r:.60}")
    names = list(map(str, classes if classes is not None else model.classes or ()))
    if not names or count is None or len(names) == count:
        return names or None
    if classes is not None:
        raise ValueError(f"save: {len(names)} class names for a network with {count} outputs")
    text = f"save: model.classes has {len(names)} names, the network {count} outputs: none are written"
    warnings.warn(text, UserWarning, stacklevel=3)
    return None


def save_weights(model: Module, path: str | os.PathLike[str]) -> None:
    """Write only the named arrays of `model.state_dict()`."""
    _check_model("save_weights", model, path)
    _write(path, model.state_dict(), {})
    _warn_of_ending(path)


def load(path: str | os.PathLike[str]) -> Module:
    """Read a model that `save` wrote, in evaluation mode, with its ``classes`` and ``preprocessing``.

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
    model.__dict__["last_input_shape"] = shape
    model.preprocessing, model.classes = preprocessing, classes
    if shape is not None and classes is not None:
        _check_classes(path, model, shape, len(classes))
    return SavedModel(model, shape, classes, preprocessing, entry["version"])


def _check_classes(path: Any, model: Module, shape: tuple[int, ...], names: int) -> None:
    try:
        count = outputs(model, shape)
    except (ValueError, TypeError) as e:
        raise ValueError(f"{path}: the network does not read its input shape ({e})") from None
    if count is not None and count != names:
        raise ValueError(f"{path}: {names} class names for a network with {count} outputs")


def load_weights(model: Module, path: str | os.PathLike[str]) -> None:
    """Read named arrays into a model that has exactly these names and shapes.

    Raises
    ------
    ValueError
        When the file is damaged, or names and shapes differ; the model is then unchanged.
    """
    _check_model("load_weights", model, path)
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

    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"load: expected the path of a model file, got {type(path).__name__}")
    data = Path(path).read_bytes()
    try:
        entries: Any = deserialize(data)
    except (SafetensorError, ValueError, TypeError) as e:
        raise ValueError(f"{path}: not a safetensors file ({_instead(data) or e})") from None
    tensors = {}
    for name, entry in entries:
        if entry["dtype"] not in _DTYPES:
            known = ", ".join(_DTYPES)
            raise ValueError(f"{path}: {name}: expected one of {known}, got {entry['dtype']}")
        if 0 in entry["shape"]:
            raise ValueError(f"{path}: {name}: shape {entry['shape']} holds nothing")
        flat = np.frombuffer(entry["data"], _DTYPES[entry["dtype"]])
        try:
            tensors[name] = _widened(entry["dtype"], flat).reshape(entry["shape"])
        except (ValueError, OverflowError) as e:
            raise ValueError(f"{path}: {name}: {e}") from None
    header = _json(data[8 : 8 + int.from_bytes(data[:8], "little")], f"{path}: the header")
    metadata = header.get("__metadata__") or {}
    return tensors, metadata


def _widened(dtype: str, flat: np.ndarray) -> np.ndarray:
    if dtype == "BF16":  # the upper half of a float32
        return (flat.astype(np.uint32) << 16).view(np.float32)
    return flat.astype(np.float32) if dtype == "F16" else flat


def _instead(data: bytes) -> str:
    if not data:
        return "it is empty"
    kind = next((kind for begin, kind in _OTHERS.items() if data.startswith(begin)), "")
    if kind == "a PyTorch file":
        return f"{kind}: torch.load it, build the network, and give its state_dict to model.load_state_dict"
    if kind == "an image":
        return "an image: the model comes first, then what it predicts on"
    return f"{kind}: give its arrays, transposed as needed, to model.load_state_dict" if kind else ""


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
