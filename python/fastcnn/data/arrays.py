"""Labelled images in memory. They stay as they are stored (uint8 mostly); one batch at a time is normalised."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from fastcnn.data.preprocessing import Preprocessing
from fastcnn.data.stored import StoredImages
from fastcnn.functional._arguments import label_hint


class Dataset(Protocol):
    """What training and evaluation need of a data set. Anything that has these two will do.

    One may also have ``preprocessing`` (a `Preprocessing`: what the model will need to read other images),
    ``classes`` (their names) and ``input_shape`` (of one image): they travel with the model.
    """

    def __len__(self) -> int: ...

    def batch(self, indices: np.ndarray, key: tuple[int, int] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Network input (N, C, H, W) float32 and labels (N,) int64 of these positions.

        `key` (seed, epoch) is given in training: random changes to the images follow from it and from the
        position alone, never from the order of the calls. Without it nothing is random.
        """
        ...


class ArrayDataset(StoredImages):
    """Images and labels held as NumPy arrays.

    Parameters
    ----------
    images : numpy.ndarray
        (N, C, H, W) or (N, H, W), or (N, F) for networks that read vectors; uint8 or float32; kept as given,
        not copied.
    labels : array of integers
        (N,), each from 0 to ``len(classes) - 1``.
    classes : sequence of str, optional
        Names; by default "0", "1", ... up to the largest label.
    preprocessing : Preprocessing, optional
        For pixels of the images' type. By default uint8 is scaled to 0..1 and float32 is taken as it is; a model
        that has a preprocessing of its own then uses that.
    shift : int
        In training, each image is moved by up to this many pixels in both directions at random.

    Raises
    ------
    TypeError
        For element types that would have to be converted.
    ValueError
        For shapes that do not fit each other and labels without a class.

    Examples
    --------
    >>> data = ArrayDataset(np.zeros((3, 8, 8), np.uint8), [0, 1, 1])
    >>> len(data), data.input_shape, data.classes
    (3, (1, 8, 8), ('0', '1'))
    >>> x, y = data.batch(np.array([2, 0]))
    >>> x.shape, x.dtype, y
    ((2, 1, 8, 8), dtype('float32'), array([1, 0]))
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray | Sequence[int],
        classes: Sequence[str] | None = None,
        preprocessing: Preprocessing | None = None,
        shift: int = 0,
    ) -> None:
        self._images = images = pixels_of(images)
        self.labels = _checked_labels(labels, len(images))
        largest = int(self.labels.max(initial=-1))
        if isinstance(classes, str):
            raise TypeError(f"classes must be a sequence of names, got the text {classes!r:.60}")
        self._named = classes is not None
        self.classes = tuple(map(str, range(largest + 1) if classes is None else classes))
        if largest >= len(self.classes):
            raise ValueError(f"label {largest} has no class: there are {len(self.classes)} classes")
        if preprocessing is None:
            scale = 1 / 255 if images.dtype == np.uint8 else 1.0
            mode = "RGB" if images.shape[1] == 3 else "L"
            self._assumed = preprocessing = Preprocessing(scale=scale, mode=mode, dtype=images.dtype.name)
        if not isinstance(preprocessing, Preprocessing):
            raise TypeError(f"preprocessing must be a fastcnn.data.Preprocessing, got {preprocessing!r:.60}")
        if preprocessing.dtype != images.dtype:
            raise ValueError(
                f"the preprocessing is for {preprocessing.dtype} pixels, the images are {images.dtype}: "
                f"give Preprocessing(..., dtype={images.dtype.name!r})"
            )
        if len(preprocessing.mean) not in (1, images.shape[1]):
            got = len(preprocessing.mean)
            raise ValueError(f"preprocessing for {got} channels, the images have {images.shape[1]}")
        if shift < 0 or (shift and (images.ndim < 4 or shift >= min(images.shape[2:]))):
            raise ValueError(
                f"shift must be at least 0 and less than the sides {images.shape[2:]}, got {shift}"
            )
        self.preprocessing = preprocessing
        self.shift = shift

    @property
    def images(self) -> np.ndarray:
        """Pixels (N, C, H, W) as stored."""
        return self._images

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(C, H, W) of one image."""
        return self._images.shape[1:]

    def __repr__(self) -> str:
        sizes = "x".join(map(str, self.images.shape))
        return f"ArrayDataset({sizes} {self.images.dtype}, {len(self.classes)} classes)"

    @property
    def dtype(self) -> str:
        return self._images.dtype.name

    def _warn_if_unscaled(self, preprocessing: Preprocessing) -> None:
        if self.is_assumed:
            warn_if_unscaled(self._images, preprocessing)

    def pixels(self, positions: np.ndarray) -> np.ndarray:
        return self._images[positions]

    def _take(self, positions: np.ndarray) -> None:
        self._images, self.labels = self._images[positions], self.labels[positions]


def pixels_of(images: Any) -> np.ndarray:
    """(N, C, H, W), or (N, F), uint8 or float32; nothing is converted."""
    try:
        array = np.asarray(images)
    except (ValueError, TypeError, RuntimeError) as e:  # ragged lists, tensors on other devices
        raise ValueError(
            f"images must be one array (N, C, H, W), got {type(images).__name__} ({e})"
        ) from None
    if array.dtype not in (np.uint8, np.float32):
        as_floats = "; use images.astype(numpy.float32), scaled as the network is to see them"
        hints = {"f": as_floats, "i": "; use images.astype(numpy.uint8) for pixels of 0 to 255"}
        hints["u"] = hints["i"]
        raise TypeError(
            f"images must be uint8 or float32, got {array.dtype}{hints.get(array.dtype.kind, '')}"
        )
    if array.ndim == 3:
        array = array[:, None]
    if array.ndim not in (2, 4) or 0 in array.shape[1:]:
        raise ValueError(f"images must be (N, C, H, W) or (N, H, W), or (N, F) vectors, got {array.shape}")
    return array


def warn_if_unscaled(images: np.ndarray, preprocessing: Preprocessing) -> None:
    """float32 for a model that reads uint8 is network input; scaled to 0..1 but not normalised is a slip."""
    normalises = any(preprocessing.mean) or any(s != 1 for s in preprocessing.std)
    if images.size and normalises and images.min() >= 0 and images.max() <= 1:
        warnings.warn(
            "float32 images are taken as network input as they are; these lie within 0..1, while the model's "
            f"preprocessing for uint8 pixels also normalises (mean {preprocessing.mean}, std {preprocessing.std}): "
            "give the uint8 pixels, or images normalised like them",
            UserWarning,
            stacklevel=4,
        )


def _checked_labels(labels: Any, count: int) -> np.ndarray:
    array = np.asarray(labels)
    if array.size and array.dtype.kind not in "iu":
        raise TypeError(f"labels must be integers, got {array.dtype}{label_hint(array)}")
    if array.shape != (count,):
        raise ValueError(
            f"expected {count} labels, one per image, got shape {array.shape}{label_hint(array)}"
        )
    array = array.astype(np.int64, copy=False)
    if array.size and array.min() < 0:
        raise ValueError(f"labels must not be negative, got {int(array.min())}")
    return array
