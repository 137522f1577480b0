"""Data sets that give one pair (image, label) at a time, as PyTorch's do."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn.data.images import is_grey
from fastcnn.data.pictures import is_picture, one_picture
from fastcnn.data.preprocessing import Preprocessing
from fastcnn.data.stored import Preprocessed
from fastcnn.functional._arguments import label_hint


class ItemDataset(Preprocessed):
    """A data set by ``__getitem__`` and ``__len__`` whose items are pairs (image, label).

    Images are arrays or tensors (C, H, W) or (H, W), uint8 or float32, uint8 (H, W, C), Pillow images or paths. They
    are asked for anew in each pass; what the items do at random is theirs.
    """

    shift = 0

    def __init__(self, items: Any) -> None:
        self._items = items
        self._size: tuple[int, int] | None = None
        first = self._item(0)[0] if len(items) else np.zeros((1, 1), np.uint8)
        mode = getattr(first, "mode", "RGB") if is_picture(first) else "RGB"
        self.preprocessing = Preprocessing(mode="L" if is_grey(mode) else "RGB")
        array = self._image(0, first)
        self._dtype = array.dtype.name
        if self._dtype == "float32":
            self.preprocessing = Preprocessing(scale=1.0, dtype="float32")
        elif len(array) == 1:
            self.preprocessing = Preprocessing(mode="L")
        self.classes = tuple(map(str, getattr(items, "classes", None) or ()))
        self.assumed()

    @property
    def dtype(self) -> str:
        return self._dtype

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(C, H, W) of the first image."""
        return self._image(0, self._item(0)[0]).shape

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return f"{len(self)} items of {type(self._items).__name__}"

    def batch(self, indices: Any, key: tuple[int, int] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Network input (N, C, H, W) float32 and labels (N,) int64; see `fastcnn.data.Dataset.batch`."""
        images, labels = [], []
        for i in np.asarray(indices).tolist():
            image, label = self._item(i)
            images.append(self._image(i, image))
            labels.append(np.asarray(label))
            if images[-1].shape != images[0].shape:
                got, first = ("x".join(map(str, x.shape)) for x in (images[-1], images[0]))
                raise ValueError(f"item {i} of the data set: an image of {got}, others have {first}")
            if images[-1].dtype.name != self._dtype:
                raise TypeError(
                    f"item {i} of the data set: an image of {images[-1].dtype}, the first one is {self._dtype}: pixels "
                    "are scaled, float32 is not; make all of one type"
                )
        together = np.array(labels)
        if together.ndim != 1 or together.dtype.kind not in "iu":
            raise TypeError(
                f"items of the data set: expected an integer as label, got {together.dtype} "
                f"of shape {together.shape[1:]}{label_hint(together)}"
            )
        pixels = np.stack(images)
        x = self.preprocessing.apply(pixels) if self.preprocessing.dtype == pixels.dtype.name else pixels
        return x, together.astype(np.int64)

    def _fit_to(self, input_shape: tuple[int, ...] | None) -> None:
        if input_shape is not None and len(input_shape) == 3:
            self._size = input_shape[1:]

    def _item(self, i: int) -> tuple[Any, Any]:
        try:
            item = self._items[i]
        except (KeyError, TypeError) as e:
            raise TypeError(
                f"expected a data set whose items are pairs (image, label), got {type(self._items).__name__}, "
                f"whose item {i} is a {type(e).__name__}: {e}"
            ) from None
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise TypeError(
                f"expected a data set whose items are pairs (image, label), got a {type(item).__name__} as item {i} "
                f"of {type(self._items).__name__}"
            )
        return item[0], item[1]

    def _image(self, i: int, image: Any) -> np.ndarray:
        try:
            return one_picture(image, self.preprocessing, self._size)
        except (TypeError, ValueError) as e:
            raise type(e)(f"item {i} of the data set: {e}") from None
