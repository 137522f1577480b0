"""One image file as the pixels that a network reads: decoding, channels, size, and centring of glyphs."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np

from fastcnn.data.arrays import Preprocessing

_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
_MAX_PIXELS = 1 << 27
_INK = 64  # of 255: what belongs to a glyph, after the page was taken off and the contrast stretched


def read_image(
    source: str | os.PathLike[str] | bytes, preprocessing: Preprocessing, size: tuple[int, int] | None = None
) -> np.ndarray:
    """Decode one image file into pixels (C, H, W) uint8.

    Parameters
    ----------
    source : path or bytes of an image file
    preprocessing : Preprocessing
        Its `mode` decides the channels, its `glyph` whether a glyph is looked for.
    size : (height, width), optional
        Resized to it, keeping the proportions: what is left over is filled with the mean of the border.

    Raises
    ------
    ValueError
        When the bytes are not an image that can be decoded.
    OSError
        When the file cannot be opened.
    """
    name = "image" if isinstance(source, bytes) else os.fspath(source)
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    return decode(data, name, preprocessing, size)


def decode(
    data: bytes, name: str, preprocessing: Preprocessing, size: tuple[int, int] | None, glyph: bool = True
) -> np.ndarray:
    """As `read_image`; `name` is for the error text, `glyph=False` leaves glyphs where they are."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise ValueError(f"{image.width}x{image.height} pixels, at most {_MAX_PIXELS} are read")
            plain = _flattened(image, preprocessing.mode)
    except MemoryError:
        raise
    except Exception as e:  # decoders of damaged files raise many kinds
        raise ValueError(f"{name}: not a readable image ({str(e) or type(e).__name__})") from None
    if glyph and preprocessing.glyph > 0:
        plain = _dark_page(plain)
        if size is not None and (plain.height, plain.width) != size:
            plain = _centred_glyph(plain, size, preprocessing.glyph)
    if size is not None and (plain.height, plain.width) != size:
        plain = _fitted(plain, size)
    pixels = np.asarray(plain, np.uint8)
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _dark_page(image: Any) -> Any:
    """Inverted when the border is light."""
    from PIL import ImageOps

    return ImageOps.invert(image) if np.mean(_border_colour(image)) > 127 else image


def _centred_glyph(image: Any, size: tuple[int, int], fill: float) -> Any:
    """The glyph at `fill` of the image's side, its centre of mass in the middle (as MNIST was made)."""
    from PIL import Image

    pixels = np.asarray(image.convert("L"), np.float64)
    ink = np.clip(pixels - np.median(_border(pixels)), 0, None)
    ink *= 255 / max(ink.max(), 1)
    rows, columns = np.flatnonzero((ink >= _INK).any(axis=1)), np.flatnonzero((ink >= _INK).any(axis=0))
    if not len(rows):
        return image
    box = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    factor = fill * min(size[0] / box.shape[0], size[1] / box.shape[1])
    height, width = (max(1, round(side * factor)) for side in box.shape)
    small = Image.fromarray(np.rint(box).astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    weights = np.asarray(small, np.float64)
    total = max(weights.sum(), 1)
    middle_y = (weights.sum(axis=1) * (np.arange(height) + 0.5)).sum() / total
    middle_x = (weights.sum(axis=0) * (np.arange(width) + 0.5)).sum() / total
    top = min(max(round(size[0] / 2 - middle_y), 0), size[0] - height)
    left = min(max(round(size[1] / 2 - middle_x), 0), size[1] - width)
    out = Image.new("L", (size[1], size[0]), 0)
    out.paste(small, (left, top))
    return out.convert(image.mode)


def _flattened(image: Any, mode: str) -> Any:
    """In `mode`, right way up, with what is transparent shown on white."""
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image).convert("RGB")
    if image.mode.startswith("I;16") or image.mode == "I":
        image = Image.fromarray((np.asarray(image, np.int64).clip(0, 65535) >> 8).astype(np.uint8))
    return image.convert(mode)


def _fitted(image: Any, size: tuple[int, int]) -> Any:
    from PIL import Image

    height, width = size
    factor = min(height / image.height, width / image.width)
    inner = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    resized = image.resize(inner, Image.Resampling.BICUBIC)
    if inner == (width, height):
        return resized
    out = Image.new(image.mode, (width, height), _border_colour(image))
    out.paste(resized, ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return out


def _border_colour(image: Any) -> Any:
    mean = np.rint(_border(np.asarray(image, np.float64)).mean(axis=0)).astype(int)
    return int(mean) if mean.ndim == 0 else tuple(int(v) for v in mean)


def _border(pixels: np.ndarray) -> np.ndarray:
    return np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
