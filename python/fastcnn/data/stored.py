"""What the data sets of this package have in common: labelled pixels, as stored, and what is made of them."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np

from fastcnn.data import order
from fastcnn.data.preprocessing import Preprocessing, cure

P = TypeVar("P", bound="Preprocessed")
S = TypeVar("S", bound="StoredImages")


class Preprocessed:
    """Images whose pixels go through a preprocessing, which is their own or the model's."""

    preprocessing: Preprocessing
    _assumed: Preprocessing | None = None  # taken by default: nobody asked for it
    _named = True  # whether the classes' names were given

    @property
    def dtype(self) -> str:
        """Of the pixels: "uint8" or "float32"."""
        raise NotImplementedError

    def assumed(self: P) -> P:
        """Its preprocessing is a proposal: a model that has one of its own uses that without a word."""
        self._assumed = self.preprocessing
        return self

    @property
    def is_assumed(self) -> bool:
        return self.preprocessing is self._assumed

    def fitted(self: P, preprocessing: Preprocessing | None, input_shape: tuple[int, ...] | None = None) -> P:
        """These images as a model reads them that has this preprocessing and input shape.

        Raises
        ------
        ValueError
            For uint8 pixels and a preprocessing that is not for them.
        """
        if preprocessing is None:
            return self
        if preprocessing.dtype != self.dtype:
            if self.dtype == "uint8":
                raise ValueError(cure(preprocessing))
            self._warn_if_unscaled(preprocessing)
            return self
        other = copy.copy(self)
        if preprocessing != self.preprocessing:
            if not self.is_assumed:
                warnings.warn(
                    f"{self!r} has another preprocessing than the model, whose own is used; model.preprocessing = ... "
                    "changes that",
                    UserWarning,
                    stacklevel=4,
                )
            other.preprocessing = preprocessing
        other._fit_to(input_shape)
        return other

    def _fit_to(self, input_shape: tuple[int, ...] | None) -> None:
        """Bring the images to what a network reads, where they are files or pictures."""

    def _warn_if_unscaled(self, preprocessing: Preprocessing) -> None:
        """float32 is network input; say so where it looks as if it were not."""


class StoredImages(Preprocessed):
    """Labelled images that are kept as stored and normalised one batch at a time.

    ``data[i]`` and iteration give single pairs (pixels as stored, label); `batch` gives network input.

    Attributes
    ----------
    labels : numpy.ndarray
        (N,) int64.
    classes : tuple of str
    preprocessing : Preprocessing
        What `batch` puts the pixels through.
    shift : int
        In training, each image is moved by up to this many pixels in both directions at random.
    """

    labels: np.ndarray
    classes: tuple[str, ...]
    shift: int

    @property
    def images(self) -> np.ndarray:
        """Pixels (N, C, H, W) as stored."""
        raise NotImplementedError

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(C, H, W) of one image."""
        raise NotImplementedError

    def pixels(self, positions: np.ndarray) -> np.ndarray:
        """(N, C, H, W) as stored, of these images."""
        raise NotImplementedError

    def _take(self, positions: np.ndarray) -> None:
        """Keep these images alone."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        """Pixels (C, H, W) as stored and label of one image."""
        if isinstance(i, (bool, np.bool_)) or not isinstance(i, (int, np.integer)):
            raise TypeError(f"data[i] is one image: expected an integer, got {i!r:.60}; use data.subset(...)")
        if not -len(self) <= i < len(self):
            raise IndexError(f"there are {len(self)} images, no image {i}")
        at = np.array([int(i) % len(self)])
        return self.pixels(at)[0], int(self.labels[at[0]])

    def __iter__(self) -> Iterator[tuple[np.ndarray, int]]:
        return (self[i] for i in range(len(self)))

    def batch(self, indices: Any, key: tuple[int, int] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Network input (N, C, H, W) float32 and labels (N,) int64; see `fastcnn.data.Dataset.batch`."""
        positions = self._positions(indices)
        images = self.pixels(positions)
        if self.shift and key is not None:
            images = shifted(images, order.offsets(key, positions, self.shift))
        return self.preprocessing.apply(images), self.labels[positions]

    def subset(self: S, indices: Any) -> S:
        """The images at these positions (integers, a slice, or (N,) bool), as a data set of the same kind."""
        part = copy.copy(self)
        part._take(self._positions(indices))
        return part

    def split(self: S, held_out: Any) -> tuple[S, S]:
        """The images to train on, and those held out.

        Parameters
        ----------
        held_out : (N,) bool, or a number between 0 and 1
            Which; or how large a part: then every n-th image of each class, in the order given.

        Examples
        --------
        >>> from fastcnn.data import digits
        >>> [len(part) for part in digits().split(0.2)]
        [1157, 285]
        """
        if isinstance(held_out, (int, float)) and not isinstance(held_out, bool):
            if not 0 < held_out < 1:
                raise ValueError(f"split: expected a part between 0 and 1, got {held_out}")
            chosen = order.held_out(self.labels, float(held_out))
        else:
            chosen = np.asarray(held_out)
            if chosen.dtype != bool or chosen.shape != (len(self),):
                raise ValueError(
                    f"split: expected {len(self)} truth values (True: held out) or a part such as 0.2, "
                    f"got {chosen.dtype} of shape {chosen.shape}; subset(...) takes positions"
                )
        return self.subset(~chosen), self.subset(chosen)

    def describe(self) -> str:
        """One line: how many images, of what kind, and what the network sees of them."""
        return f"{counted(len(self), 'image')} {size_text(self.input_shape)}, {class_text(self.classes)}"

    def _positions(self, indices: Any) -> np.ndarray:
        if isinstance(indices, slice):
            return np.arange(len(self))[indices]
        positions = np.asarray(indices)
        if positions.dtype == bool and positions.shape == (len(self),):
            return np.flatnonzero(positions)
        if positions.size == 0:
            return np.zeros(0, np.int64)
        if positions.ndim != 1 or positions.dtype.kind not in "iu":
            raise TypeError(
                f"expected the positions of images, (N,) integers, got {positions.dtype} of shape {positions.shape}"
            )
        return positions.astype(np.int64, copy=False)


def counted(n: int, what: str) -> str:
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def class_text(classes: tuple[str, ...]) -> str:
    return f"{len(classes):,} class" if len(classes) == 1 else f"{len(classes):,} classes"


def size_text(shape: tuple[int, ...]) -> str:
    """As people say it: 28x28 grey, 32x24 colour (width before height)."""
    if len(shape) != 3:
        return f"of {'x'.join(map(str, shape))} numbers"
    kind = {1: "grey", 3: "colour"}.get(shape[0], f"with {shape[0]} channels")
    return f"{shape[2]}x{shape[1]} {kind}"


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
