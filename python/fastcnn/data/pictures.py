"""In what forms people have pictures: files, Pillow images, and arrays whose axes lie one way or another."""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np

from fastcnn.data.images import convert, read_image
from fastcnn.data.preprocessing import Preprocessing

_CHANNELS = (1, 3, 4)


def is_picture(x: Any) -> bool:
    """A path, the bytes of a file, or a Pillow image."""
    pillow = sys.modules.get("PIL.Image")
    return isinstance(x, (str, os.PathLike, bytes)) or (pillow is not None and isinstance(x, pillow.Image))


def arranged(a: np.ndarray, shape: tuple[int, ...] | None) -> np.ndarray | list[np.ndarray]:
    """An array as the batch (N, ...) that it is for a network that reads ``shape``, or as pictures (H, W) or (H, W, C).

    Pictures are uint8 and of another size than the network's input, which they are brought to.

    Raises
    ------
    ValueError
        When it may be either of two things.

    >>> photo = np.zeros((60, 80, 3), np.uint8)
    >>> [p.shape for p in arranged(photo, (3, 32, 32))], arranged(photo[:32, :32], (3, 32, 32)).shape
    ([(60, 80, 3)], (1, 3, 32, 32))
    """
    if shape is None or a.ndim > 4:
        return a
    if a.shape == shape:
        return a[None]
    if len(shape) != 3 or a.ndim == 4:
        return a
    c, h, w = shape
    if c == 1 and a.shape == (h, w):
        return a[None, None]
    if a.ndim == 3 and c == 1 and a.shape[1:] == (h, w):
        return a[:, None]
    if a.ndim == 1 or (a.ndim == 2 and a.shape[1] == c * h * w):
        raise ValueError(
            f"predict: expected images for a network that reads {c}x{h}x{w}, got flat rows {a.shape}: reshape them "
            f"with images.reshape(-1, {c}, {h}, {w})"
        )
    if a.dtype != np.uint8:
        return a
    if a.ndim == 2:
        return [a]
    if a.shape == (h, w, c):
        return a.transpose(2, 0, 1)[None]
    first, last = a.shape[0] in _CHANNELS, a.shape[2] in _CHANNELS
    if last and not first:
        return [a]
    if not first:
        return list(a)
    if last or (c == 1 and a.shape[0] > 1):
        raise ValueError(
            f"predict: uint8 of shape {a.shape} may be one picture or {a.shape[0]} grey ones: give a list of pictures "
            "(H, W) or (H, W, C), or an array (N, C, H, W)"
        )
    return [a.transpose(1, 2, 0)]


def picture(x: Any, preprocessing: Preprocessing, shape: tuple[int, ...]) -> np.ndarray:
    """Pixels (C, H, W) uint8 of one picture, as a network that reads ``shape`` was trained on."""
    if not is_picture(x):
        found = arranged(x, shape)
        if isinstance(found, np.ndarray) and found.shape[1:] == shape and len(found) == 1:
            return found[0]
        if len(found) != 1 or x.dtype != np.uint8:
            raise ValueError(f"predict: expected pictures (H, W) or (H, W, C) uint8, got {x.dtype} {x.shape}")
        x = found[0]
    pixels = one_picture(x, preprocessing, (shape[1], shape[2]))
    if len(pixels) != shape[0]:
        raise ValueError(
            f"predict: the preprocessing's mode {preprocessing.mode!r} makes pictures of {len(pixels)} channels, the "
            f"network reads {shape[0]}"
        )
    return pixels


def one_picture(x: Any, preprocessing: Preprocessing, size: tuple[int, int] | None) -> np.ndarray:
    """Pixels (C, H, W) of a picture in any form; an array that has the size, or none is asked for, keeps its own.

    Raises
    ------
    TypeError
        For arrays that are neither uint8 nor float32, and what is no picture.
    """
    if is_picture(x):
        by_name = isinstance(x, (str, os.PathLike, bytes))
        return read_image(x, preprocessing, size) if by_name else convert(x, preprocessing, size)
    try:
        a = np.asarray(x.detach() if hasattr(x, "detach") else x)
    except (TypeError, RuntimeError, ValueError) as e:
        raise TypeError(f"expected a picture, got {type(x).__name__} ({e})") from None
    if a.dtype == np.float32:
        return a[None] if a.ndim == 2 else a
    if a.dtype != np.uint8 or a.ndim not in (1, 2, 3):
        hint = "; use .astype(numpy.float32)" if a.dtype.kind == "f" else ""
        raise TypeError(
            f"expected a picture (C, H, W) as uint8 or float32, got {a.dtype} of shape {a.shape}{hint}"
        )
    if a.ndim == 3 and a.shape[2] in _CHANNELS and a.shape[0] not in _CHANNELS:
        if size is None or a.shape[:2] == size:
            return a.transpose(2, 0, 1)
    elif a.ndim == 1 or size is None or a.shape[-2:] == size:
        return a[None] if a.ndim == 2 else a
    elif a.ndim == 3:
        a = a.transpose(1, 2, 0)
    return convert(a, preprocessing, size)
