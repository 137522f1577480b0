"""The handwritten digits that come with the package.

E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998;
CC BY 4.0 (``files/digits-LICENSE.txt``). 1,797 images by 13 writers, 8x8, each element a count of 0 to 16.
"""

from __future__ import annotations

from importlib import resources

import numpy as np

from fastcnn.data.arrays import ArrayDataset
from fastcnn.data.idx import read_idx
from fastcnn.data.order import held_out
from fastcnn.data.preprocessing import Preprocessing
from fastcnn.functional._arguments import flag

_SIDE, _BORDER = 20, 4  # as in MNIST: a 20x20 digit in a 28x28 field (LeCun et al. 1998, section III.A)


def digits(train: bool = True, *, shift: int | None = None) -> ArrayDataset:
    """The bundled handwritten digits, at LeNet-5's input size 1x28x28.

    Every fifth image of each class is held out: 1,442 images to train on, 355 to test. The same 13
    people wrote both parts; ``docs/accuracy.md`` says what that means for the figures.

    Parameters
    ----------
    train : bool
        The training part or the held-out part.
    shift : int, optional
        Random shifts in training, in pixels; 2 by default in the training part.

    Returns
    -------
    ArrayDataset
        uint8 images (N, 1, 28, 28), classes "0" to "9".

    Examples
    --------
    >>> digits(train=True), digits(train=False)
    (ArrayDataset(1442x1x28x28 uint8, 10 classes), ArrayDataset(355x1x28x28 uint8, 10 classes))
    """
    train = bool(flag("digits", "train", train))
    files = resources.files("fastcnn.data") / "files"
    with resources.as_file(files / "digits-images-idx3-ubyte.gz") as path:
        counts = read_idx(path)  # (1797, 8, 8)
    with resources.as_file(files / "digits-labels-idx1-ubyte.gz") as path:
        labels = read_idx(path).astype(np.int64)
    keep = held_out(labels) != train
    return ArrayDataset(
        _enlarged(counts[keep]),
        labels[keep],
        classes=tuple("0123456789"),
        preprocessing=Preprocessing(mean=(0.1573,), std=(0.2930,), glyph=20 / 28),
        shift=(2 if train else 0) if shift is None else shift,
    ).assumed()


def _enlarged(counts: np.ndarray) -> np.ndarray:
    """Counts (N, 8, 8) as grey images (N, 1, 28, 28) uint8, bicubic."""
    from PIL import Image

    grey = (counts.astype(np.uint16) * 255 // 16).astype(np.uint8)
    out = np.zeros((len(grey), 1, 28, 28), np.uint8)
    inner = slice(_BORDER, _BORDER + _SIDE)
    for i, small in enumerate(grey):
        large = Image.fromarray(small).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
        out[i, 0, inner, inner] = np.asarray(large)
    return out
