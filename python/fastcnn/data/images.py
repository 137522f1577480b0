"""One picture as the pixels that a network reads: decoding, channels, size, and centring of glyphs."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np

from fastcnn.data.preprocessing import Preprocessing

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
_READ = "JPEG, PNG, BMP, GIF, WebP, TIFF and PPM are read"
_SIGNATURES = (
    b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"GIF8", b"RIFF", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+",
    *(b"P%d" % kind for kind in range(1, 7)),
)  # fmt: skip
_MAX_PIXELS = 1 << 27
_INK = 64  # of 255: what belongs to a glyph, after the page was taken off and the contrast stretched
_MIN_CONTRAST = 24  # of 255: less than this is a blank page
_DEPTHS = (8, 10, 12, 14, 16)  # bits that 16-bit files are known to hold

_pillow_limit = threading.Lock()


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
        When the bytes are not an image that can be decoded, or it shows no glyph where one is looked for.
    OSError
        When the file cannot be opened.
    """
    name = "image" if isinstance(source, bytes) else os.fspath(source)
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    return decode(data, name, preprocessing, size)


def decode(data: bytes, name: str, preprocessing: Preprocessing, size: tuple[int, int] | None) -> np.ndarray:
    """As `read_image`; `name` is for the error text."""
    try:
        with _opened(data) as image:
            plain = _flattened(image, preprocessing)
    except MemoryError:
        raise
    except Exception as e:  # decoders of damaged files raise many kinds
        raise ValueError(f"{name}: not a readable image ({_reason(e)})") from None
    return _prepared(plain, name, preprocessing, size)


def convert(
    image: Any, preprocessing: Preprocessing, size: tuple[int, int] | None, name: str = "image"
) -> np.ndarray:
    """The same for a picture in memory: a Pillow image, or pixels (H, W) or (H, W, C) uint8."""
    from PIL import Image

    if isinstance(image, np.ndarray):
        image = Image.fromarray(np.ascontiguousarray(image[..., 0] if image.shape[2:] == (1,) else image))
    try:
        plain = _flattened(image, preprocessing)
    except (ValueError, OSError) as e:
        raise ValueError(f"{name}: not a readable image ({_reason(e)})") from None
    if 0 in plain.size:
        raise ValueError(f"{name}: has no pixels ({plain.width}x{plain.height})")
    return _prepared(plain, name, preprocessing, size)


def looks_readable(begin: bytes) -> bool:
    """Whether a file that begins so can be one of the formats that are read."""
    return begin.startswith(_SIGNATURES)


def is_grey(mode: str) -> bool:
    """Whether images of one of Pillow's modes have no colour."""
    return mode in ("1", "L", "LA", "I", "F") or mode.startswith("I;16")


def size_and_mode(data: bytes) -> tuple[int, int, str]:
    """Width, height and Pillow's mode, from the header alone."""
    with _opened(data) as image:
        return image.width, image.height, image.mode


def _opened(data: bytes) -> Any:
    """The image, not yet decoded; at most _MAX_PIXELS (Pillow's own limit only warns, of every user's images)."""
    from PIL import Image

    with _pillow_limit:
        theirs, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = theirs
    if image.width * image.height > _MAX_PIXELS:
        raise ValueError(f"{image.width}x{image.height} pixels, at most {_MAX_PIXELS:,} are read")
    return image


def _reason(e: Exception) -> str:
    if type(e).__name__ == "UnidentifiedImageError":
        return _READ
    return str(e) or type(e).__name__


def _prepared(
    plain: Any, name: str, preprocessing: Preprocessing, size: tuple[int, int] | None
) -> np.ndarray:
    if preprocessing.glyph > 0:
        plain = _dark_page(plain)
        ink = _ink(plain)
        if ink.max() < _MIN_CONTRAST:
            raise ValueError(f"{name}: no glyph found (a blank page?)")
        if size is not None and (plain.height, plain.width) != size:
            plain = _centred_glyph(ink, size, preprocessing).convert(plain.mode)
    if size is not None and (plain.height, plain.width) != size:
        plain = _fitted(plain, size)
    pixels = np.asarray(plain, np.uint8)
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _dark_page(image: Any) -> Any:
    """Inverted when the border is light."""
    from PIL import ImageOps

    return ImageOps.invert(image) if np.mean(_border_colour(image)) > 127 else image


def _ink(image: Any) -> np.ndarray:
    """How much lighter than the border each pixel is."""
    pixels = np.asarray(image.convert("L"), np.float64)
    return np.clip(pixels - np.median(_border(pixels)), 0, None)


def _centred_glyph(ink: np.ndarray, size: tuple[int, int], preprocessing: Preprocessing) -> Any:
    """The glyph at its part of the image's side, its centre of mass in the middle (as MNIST was made)."""
    from PIL import Image

    ink = ink * (255 / ink.max())
    rows, columns = np.flatnonzero((ink >= _INK).any(axis=1)), np.flatnonzero((ink >= _INK).any(axis=0))
    box = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    factor = preprocessing.glyph * min(size[0] / box.shape[0], size[1] / box.shape[1])
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
    return out


def _flattened(image: Any, preprocessing: Preprocessing) -> Any:
    """In the preprocessing's mode, right way up, with what is transparent shown on white."""
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image).convert("RGB")
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        image = Image.fromarray(_eight_bits(np.asarray(image), stretch=preprocessing.glyph > 0))
    return image.convert(preprocessing.mode)


def _eight_bits(pixels: np.ndarray, stretch: bool) -> np.ndarray:
    """Pixels of more bits as uint8. `stretch`: by the range that they use, as glyphs need contrast alone."""
    if pixels.dtype.kind == "f":
        if not stretch or not np.isfinite(pixels).all() or pixels.min() < 0:
            what = "whose range nothing states" if np.isfinite(pixels).all() else "not all of them finite"
            raise ValueError(f"pixels are floats, {what}: save it with 8 or 16 bits")
        pixels = np.rint(pixels * 65535) if pixels.max() <= 1 else pixels
    levels = pixels.astype(np.int64).clip(0, 65535)
    bits = next(b for b in _DEPTHS if levels.max() < 1 << b) if stretch else 16
    return (levels >> (bits - 8)).astype(np.uint8)


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
