"""One way from a picture to a network's input, for training, evaluation and prediction alike.

What is given becomes a data set (`as_dataset`), or for prediction batches of network input (`probabilities`). Pixels go
through the preprocessing that the model carries; what that does not cover is an error that names the cure.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn import functional
from fastcnn.data.arrays import ArrayDataset, Dataset, pixels_of, warn_if_unscaled
from fastcnn.data.items import ItemDataset
from fastcnn.data.pictures import arranged, is_picture, picture
from fastcnn.data.preprocessing import Preprocessing, cure
from fastcnn.data.stored import Preprocessed

if TYPE_CHECKING:
    from fastcnn.nn import Module

BATCH = 256


def as_dataset(data: Any, preprocessing: Preprocessing | None = None, labels: Any = None) -> Dataset:
    """What is given to train on, as a data set.

    Parameters
    ----------
    data : data set, pair (images, labels), or images
        A data set is anything with ``batch`` and ``__len__`` (see `fastcnn.data.Dataset`), which stays as it is, or
        with ``__getitem__`` and ``__len__`` that gives pairs (image, label), as PyTorch's.
    preprocessing : Preprocessing, optional
        The model's. It takes the place of what was only assumed of pixels; without one, uint8 is scaled to 0..1.
    labels : (N,) integers, optional
        Where `data` is the images alone.

    Raises
    ------
    TypeError
        For anything else.
    ValueError
        For uint8 pixels and a preprocessing that is not for them.

    Examples
    --------
    >>> as_dataset((np.zeros((2, 4, 4), np.uint8), [0, 1]))
    ArrayDataset(2x1x4x4 uint8, 2 classes)
    """
    if labels is not None:
        if not hasattr(data, "__array__") and callable(getattr(data, "batch", None)):
            raise TypeError(f"labels {type(labels).__name__} beside {type(data).__name__}, which has its own")
        data = (data, labels)
    dataset: Any
    if isinstance(data, (tuple, list)) and len(data) == 2:
        dataset = ArrayDataset(*data)
    elif callable(getattr(data, "batch", None)) and hasattr(data, "__len__"):
        dataset = data
    elif _has_items(data):
        dataset = ItemDataset(data)
    else:
        raise TypeError(f"expected a data set or a pair (images, labels), got {_what(data)}")
    if isinstance(dataset, Preprocessed) and dataset.is_assumed:
        dataset = dataset.fitted(preprocessing)
    return dataset


def for_model(model: Module, data: Any, labels: Any = None) -> Dataset:
    """What is given to evaluate on, as a data set that makes of pixels what the model was trained on.

    Raises
    ------
    ValueError
        For uint8 pixels and a model that has no preprocessing for them.
    """
    return _labelled(_as_read(data, model.preprocessing, model.last_input_shape, labels), model.classes)


class _Relabelled:
    """A data set with labels as another order of classes has them."""

    def __init__(self, data: Any, classes: tuple[str, ...]) -> None:
        self._data, self.classes = data, classes
        self._numbers = np.array([classes.index(name) for name in data.classes], np.int64)

    def __len__(self) -> int:
        return len(self._data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data, name)

    def batch(self, indices: np.ndarray, key: tuple[int, int] | None = None) -> tuple[np.ndarray, np.ndarray]:
        x, y = self._data.batch(indices, key)
        return x, self._numbers[y]


def _labelled(data: Any, classes: tuple[str, ...] | None) -> Any:
    """The data with labels that count the model's classes; by their names, where both have some."""
    given = tuple(map(str, getattr(data, "classes", None) or ()))
    if not classes or not given or given == classes or not getattr(data, "_named", True):
        return data
    unknown = [name for name in given if name not in classes]
    if unknown:
        raise ValueError(
            f"the data has the class{'es' if len(unknown) > 1 else ''} {', '.join(unknown[:6])}, which the model does "
            f"not know; it knows {', '.join(classes[:12])} (model.classes = None goes by the labels' numbers)"
        )
    return _Relabelled(data, classes)


def _as_read(data: Any, known: Preprocessing | None, shape: Any, labels: Any = None) -> Dataset:
    dataset = as_dataset(data, known, labels)
    if isinstance(dataset, Preprocessed):
        if known is None and dataset is not data and dataset.dtype == "uint8":
            raise ValueError(cure(None))
        dataset = dataset.fitted(known, shape)
    return dataset


def remember(model: Module, data: Any, validation: Any = None) -> Dataset | None:
    """The model takes over what a data set that it is trained on says of its input and its classes.

    Returns
    -------
    The validation data, if any, as the model reads it from now on.

    Raises
    ------
    ValueError, TypeError
        When the model does not read such inputs, or cannot be validated on that; it is then unchanged.
    """
    shape, own = (getattr(data, name, None) for name in ("input_shape", "preprocessing"))
    if own is None or (own.dtype == "float32" and own.changes_nothing and model.preprocessing):
        own = model.preprocessing
    count = None if shape is None else outputs(model, shape)
    known = model.classes if model.classes and len(model.classes) == count else None
    given = tuple(map(str, getattr(data, "classes", None) or ()))
    named = known is None or getattr(data, "_named", True)
    names = (
        model.classes
        if shape is None
        else (given if given and len(given) == count else known)
        if named
        else known
    )
    try:
        held_out = None if validation is None else _labelled(_as_read(validation, own, shape), names)
    except (TypeError, ValueError) as e:
        raise (TypeError if isinstance(e, TypeError) else ValueError)(f"validation_data: {e}") from None
    if shape is not None:
        if named and known is not None and names != known:
            warnings.warn(
                f"the model's classes were {', '.join(known[:8])}; trained on this data they are now "
                f"{', '.join((names or ())[:8])}",
                stacklevel=4,
            )
        elif named and given and names != given and count is not None and count > len(given):
            warnings.warn(
                f"the network gives {count} numbers, the data has {len(given)} classes: their names are not kept",
                stacklevel=4,
            )
        model.__dict__["last_input_shape"] = tuple(shape)
        if named:
            model.classes = names
    model.preprocessing = own
    return held_out


def outputs(model: Module, shape: Sequence[int]) -> int | None:
    """How many numbers the model gives for one input of this shape; None where that is no row of numbers.

    Raises
    ------
    ValueError, TypeError
        When the model does not read inputs of this shape.
    """
    from fastcnn.nn.tracing import Trace

    trace = Trace(model)
    with model.in_mode(False):
        result = model(trace.input((2, *shape)))
    found: tuple[int, ...] = getattr(result, "shape", ())
    return found[1] if len(found) == 2 else None


def probabilities(
    model: Module, images: Any, batch_size: int = BATCH, input_shape: Sequence[int] | None = None
) -> np.ndarray:
    """Probability of each class (N, K), float32, as the model predicts (running statistics).

    Parameters
    ----------
    model : Module
        Gives one number per class, before any softmax.
    images : path, Pillow image, array, list of these, or data set
        Files and pictures of any size are brought to the network's input. uint8 arrays (N, C, H, W) or (N, H, W) are
        pixels as in training; (H, W, C), (C, H, W) and (H, W) are one picture. float32 arrays are network input.
    batch_size : int
        Images at a time.
    input_shape : (C, H, W), optional
        Of the network's input; by default that of its last call or training.

    Raises
    ------
    ValueError
        For pixels and a model that has no preprocessing for them; for files that are no images; for no images.
    """
    shape = model.last_input_shape if input_shape is None else tuple(input_shape)
    with model.in_mode(False):
        scores = [model(x) for x in _inputs(model, images, batch_size, shape)]
    if not scores:
        raise ValueError("there are no images to predict")
    if scores[0].ndim != 2:
        got = "x".join(map(str, scores[0].shape))
        raise ValueError(f"predict: expected a network that gives (N, classes), its result is {got}")
    return functional.softmax(np.concatenate(scores))


def _inputs(model: Module, images: Any, batch_size: int, shape: Any) -> Iterator[np.ndarray]:
    """Batches of network input."""
    from fastcnn.data.loader import batches

    known: Preprocessing | None = model.preprocessing
    if _is_data(images):
        data = _as_read(images, model.preprocessing, model.last_input_shape)  # whatever its labels are
        return (x for x, _ in batches(data, batch_size))
    if not is_picture(images):
        if isinstance(images, (list, tuple)) or isinstance(images, Iterator):
            images = _alike(list(images))
        elif hasattr(images, "__array__"):
            images = np.asarray(images)
        else:
            raise TypeError(f"predict: expected paths, pictures, an array or a data set, got {_what(images)}")
    if isinstance(images, np.ndarray):
        images = arranged(images, shape)
    if isinstance(images, np.ndarray):
        return _of_array(pixels_of(images), known, batch_size)
    return _of_pictures([images] if is_picture(images) else images, known, batch_size, shape)


def _of_array(images: np.ndarray, known: Preprocessing | None, size: int) -> Iterator[np.ndarray]:
    put = _put_through(images, known)
    return (put(images[i : i + size]) for i in range(0, len(images), size))


def _put_through(images: np.ndarray, known: Preprocessing | None) -> Callable[[np.ndarray], np.ndarray]:
    """What makes network input of such arrays."""
    if known is not None and images.dtype == known.dtype:
        return known.apply
    if images.dtype == np.uint8:
        raise ValueError(cure(known))
    if known is not None:
        warn_if_unscaled(images, known)
    return lambda x: x


def _of_pictures(
    pictures: Sequence[Any], known: Preprocessing | None, size: int, shape: Any
) -> Iterator[np.ndarray]:
    if known is None or known.dtype != "uint8":
        raise ValueError(cure(known))
    if shape is None or len(shape) != 3:
        what = "is not known (it was not called yet)" if shape is None else f"is {'x'.join(map(str, shape))}"
        raise ValueError(
            f"predict: pictures are brought to the network's input (C, H, W), which {what}; call the model on an "
            "array of its input's shape first, or train it with fit"
        )
    for begin in range(0, len(pictures), size):
        pixels = [picture(p, known, shape) for p in pictures[begin : begin + size]]
        yield known.apply(np.stack(pixels))


def _alike(items: list[Any]) -> Any:
    """A list of float arrays of one shape as one array; what else is in a list are pictures."""
    items = [np.asarray(i) if hasattr(i, "__array__") and not is_picture(i) else i for i in items]
    if items and all(isinstance(i, np.ndarray) and i.dtype != np.uint8 for i in items):
        with contextlib.suppress(ValueError):
            return np.stack(items)
    for i in items:
        if not is_picture(i) and not isinstance(i, np.ndarray):
            raise TypeError(f"predict: expected a list of paths, pictures or arrays, got one with {i!r:.60}")
    return items


def _is_data(images: Any) -> bool:
    """A data set, or a pair of images and their labels."""
    if isinstance(images, tuple) and len(images) == 2:
        return np.ndim(images[1]) == 1 and not is_picture(images[0])
    return callable(getattr(images, "batch", None)) or _has_items(images)


def _has_items(data: Any) -> bool:
    """Items by position: a data set as PyTorch has them, or a list of pairs."""
    if isinstance(data, (str, bytes, os.PathLike, Mapping)) or hasattr(data, "__array__") or is_picture(data):
        return False
    if isinstance(data, (list, tuple)):
        return len(data) > 0 and all(isinstance(i, tuple) and len(i) == 2 for i in itertools.islice(data, 8))
    return hasattr(data, "__getitem__") and hasattr(data, "__len__")


def _what(data: Any) -> str:
    """The kind of a thing that is none, and what to do instead."""
    name = "None" if data is None else type(data).__name__
    if isinstance(data, str):
        return f"the text {data!r:.60}: give fastcnn.data.digits(), or fastcnn.data.ImageFolder(path)"
    if hasattr(data, "__array__"):
        return f"{name} without labels: give (images, labels)"
    if name == "DataLoader" or hasattr(data, "batch_sampler"):
        return f"{name}, which makes batches itself: give its data set, loader.dataset (fit shuffles and batches)"
    if name == "Loader" and hasattr(data, "data"):
        return (
            f"{name}, which makes batches itself: give its data set, loader.data (fit shuffles and batches)"
        )
    if hasattr(data, "__iter__") and not isinstance(data, (str, bytes, Mapping)):
        return f"{name}: a data set needs __len__, and __getitem__ that gives pairs (image, label)"
    return name
