"""Labelled images in memory, and how they become the float batches that a network reads.

Images stay as they are stored (uint8 mostly); scaling and normalising happen to one batch at a time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from fastcnn.data.order import offsets, permutation


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What turns stored pixels into network input: ``(pixel * scale - mean) / std``, per channel.

    Saved with a model, so that a file alone is enough to predict.

    Parameters
    ----------
    scale : float
        1/255 for 8-bit images, 1 for floats.
    mean, std : tuple of float
        One number for all channels or one per channel; of the scaled pixels.
    mode : str
        Pillow's mode that an image file is brought into: ``"L"`` (grey) or ``"RGB"``.
    glyph : float
        Above 0 for light glyphs on a dark ground: the part of the side that a glyph fills. An image file of
        another size than the network's is then cropped to its glyph and centred; a light page is inverted.

    Examples
    --------
    >>> p = Preprocessing(scale=1 / 255, mean=(0.5,), std=(0.5,))
    >>> p.apply(np.array([[[[0, 255]]]], np.uint8))
    array([[[[-1.,  1.]]]], dtype=float32)
    """

    scale: float = 1.0 / 255.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    mode: str = "L"
    glyph: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", _numbers("mean", self.mean))
        object.__setattr__(self, "std", _numbers("std", self.std))
        for name in ("scale", "glyph"):
            object.__setattr__(self, name, _numbers(name, (getattr(self, name),))[0])
        if len(self.mean) != len(self.std):
            raise ValueError(
                f"Preprocessing: expected equally many mean and std, got {self.mean}, {self.std}"
            )
        if self.scale <= 0 or any(s <= 0 for s in self.std):
            raise ValueError(f"Preprocessing: scale and std must be positive, got {self.scale}, {self.std}")
        if self.mode not in ("L", "RGB"):
            raise ValueError(f"Preprocessing: mode must be 'L' or 'RGB', got {self.mode!r}")
        if not 0 <= self.glyph <= 1:
            raise ValueError(f"Preprocessing: glyph must be from 0 to 1, got {self.glyph}")

    def apply(self, images: np.ndarray) -> np.ndarray:
        """Normalised float32 images of the same shape (N, C, H, W)."""
        if len(self.mean) not in (1, images.shape[1]):
            raise ValueError(
                f"Preprocessing for {len(self.mean)} channels, the images have {images.shape[1]}"
            )
        std = np.array(self.std)
        factor = (self.scale / std).astype(np.float32).reshape(1, -1, 1, 1)
        shift = (-np.array(self.mean) / std).astype(np.float32).reshape(1, -1, 1, 1)
        out = np.multiply(images, factor, dtype=np.float32)
        return np.add(out, shift, out=out)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as `from_dict` reads it."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> Preprocessing:
        """The inverse of `to_dict`; ValueError for unknown names and wrong types."""
        known = {f.name for f in dataclasses.fields(cls)}
        if not isinstance(entries, Mapping) or not set(entries) <= known:
            raise ValueError(f"Preprocessing: expected entries among {sorted(known)}, got {entries!r:.200}")
        return cls(**entries)


def _numbers(name: str, values: Any) -> tuple[float, ...]:
    if not isinstance(values, Sequence) or isinstance(values, str) or not values:
        raise ValueError(f"Preprocessing: {name} must be a sequence of numbers, got {values!r:.100}")
    if not all(isinstance(v, (int, float)) and not isinstance(v, bool) and abs(v) < 1e30 for v in values):
        raise ValueError(f"Preprocessing: {name} must be finite numbers, got {values!r:.100}")
    return tuple(float(v) for v in values)


class Dataset(Protocol):
    """What training and evaluation need of a data set. Anything that has these will do."""

    classes: tuple[str, ...]
    preprocessing: Preprocessing

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        ...

    def __len__(self) -> int: ...

    def batch(self, indices: np.ndarray, key: tuple[int, int] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Images (N, C, H, W) float32 and labels (N,) int64 of these positions.

        `key` (seed, epoch) is given in training: random changes to the images follow from it and from the
        position alone, never from the order of the calls. Without it nothing is random.
        """
        ...


class ArrayDataset:
    """Images and labels held as NumPy arrays.

    Parameters
    ----------
    images : numpy.ndarray
        (N, C, H, W) or (N, H, W), uint8 or float32; kept as given, not copied.
    labels : array of integers
        (N,), each from 0 to ``len(classes) - 1``.
    classes : sequence of str, optional
        Names; by default "0", "1", ... up to the largest label.
    preprocessing : Preprocessing, optional
        By default uint8 is scaled to 0..1 and float32 is taken as it is.
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
        images = np.asarray(images)
        if images.dtype not in (np.uint8, np.float32):
            raise TypeError(f"images must be uint8 or float32, got {images.dtype}")
        if images.ndim == 3:
            images = images[:, None]
        if images.ndim != 4 or 0 in images.shape[1:]:
            raise ValueError(f"images must be (N, C, H, W) or (N, H, W), got {images.shape}")
        self.images = images
        self.labels = _checked_labels(labels, len(images))
        largest = int(self.labels.max(initial=-1))
        self.classes = tuple(map(str, range(largest + 1) if classes is None else classes))
        if largest >= len(self.classes):
            raise ValueError(f"label {largest} has no class: there are {len(self.classes)} classes")
        if preprocessing is None:
            scale = 1 / 255 if images.dtype == np.uint8 else 1.0
            preprocessing = Preprocessing(scale=scale, mode="RGB" if images.shape[1] == 3 else "L")
        if len(preprocessing.mean) not in (1, images.shape[1]):
            got = len(preprocessing.mean)
            raise ValueError(f"preprocessing for {got} channels, the images have {images.shape[1]}")
        if shift < 0 or shift >= min(images.shape[2:]):
            raise ValueError(
                f"shift must be at least 0 and less than the sides {images.shape[2:]}, got {shift}"
            )
        self.preprocessing = preprocessing
        self.shift = shift

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        _, c, h, w = self.images.shape
        return c, h, w

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        sizes = "x".join(map(str, self.images.shape))
        return f"ArrayDataset({sizes} {self.images.dtype}, {len(self.classes)} classes)"

    def batch(self, indices: np.ndarray, key: tuple[int, int] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Normalised images (N, C, H, W) float32 and labels (N,) int64; see `Dataset.batch`."""
        images = self.images[indices]
        if self.shift and key is not None:
            images = shifted(images, offsets(key, indices, self.shift))
        return self.preprocessing.apply(images), self.labels[indices]

    def split(self, held_out: np.ndarray) -> tuple[ArrayDataset, ArrayDataset]:
        """The images where `held_out` (N,) bool is False, and those where it is True."""
        held_out = np.asarray(held_out, bool)
        return self._part(~held_out), self._part(held_out)

    def _part(self, keep: np.ndarray) -> ArrayDataset:
        return ArrayDataset(
            self.images[keep], self.labels[keep], self.classes, self.preprocessing, self.shift
        )


def _checked_labels(labels: np.ndarray | Sequence[int], count: int) -> np.ndarray:
    array = np.asarray(labels)
    if array.size and array.dtype.kind not in "iu":
        raise TypeError(f"labels must be integers, got {array.dtype}")
    if array.shape != (count,):
        raise ValueError(f"expected {count} labels, one per image, got shape {array.shape}")
    array = array.astype(np.int64, copy=False)
    if array.size and array.min() < 0:
        raise ValueError(f"labels must not be negative, got {int(array.min())}")
    return array


def shifted(images: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Each image moved by its (down, right) pixels; what comes in at the border repeats the border."""
    n, c, h, w = images.shape
    r = int(np.abs(by).max(initial=0))
    padded = np.empty((n, c, h + 2 * r, w + 2 * r), images.dtype)
    padded[:, :, r : r + h, r : r + w] = images
    padded[:, :, :r], padded[:, :, r + h :] = padded[:, :, r : r + 1], padded[:, :, r + h - 1 : r + h]
    padded[..., :r], padded[..., r + w :] = padded[..., r : r + 1], padded[..., r + w - 1 : r + w]
    out = np.empty_like(images)
    for i, (down, right) in enumerate(by.tolist()):
        out[i] = padded[i, :, r - down : r - down + h, r - right : r - right + w]
    return out


def as_dataset(data: Any) -> Dataset:
    """A data set as it is, or an ``(images, labels)`` pair as an `ArrayDataset`.

    Raises
    ------
    TypeError
        For anything else.
    """
    if isinstance(data, (tuple, list)) and len(data) == 2:
        return ArrayDataset(data[0], data[1])
    if callable(getattr(data, "batch", None)) and hasattr(data, "__len__"):
        return data
    raise TypeError(f"expected a data set or a pair (images, labels), got {type(data).__name__}")


def batches(
    data: Dataset, batch_size: int, *, seed: int | None = None, epoch: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The batches of one pass over the data.

    Parameters
    ----------
    data : Dataset
    batch_size : int
        Images per batch; the last one may be smaller.
    seed : int, optional
        Shuffles, differently in each epoch, and lets the data set make its random changes. None: in order,
        unchanged.
    epoch : int
        Which pass this is.

    Yields
    ------
    tuple of numpy.ndarray
        Images (N, C, H, W) float32 and labels (N,) int64.

    Examples
    --------
    >>> data = ArrayDataset(np.zeros((5, 4, 4), np.uint8), [0, 1, 2, 3, 4])
    >>> [y.tolist() for _, y in batches(data, 2)]
    [[0, 1], [2, 3], [4]]
    >>> [y.tolist() for _, y in batches(data, 2, seed=1)] == [y.tolist() for _, y in batches(data, 2, seed=1)]
    True
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    order = np.arange(len(data)) if seed is None else permutation((seed, epoch), len(data))
    key = None if seed is None else (seed, epoch)
    for begin in range(0, len(order), batch_size):
        yield data.batch(order[begin : begin + batch_size], key)
