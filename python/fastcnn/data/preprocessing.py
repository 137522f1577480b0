"""What turns stored pixels into network input. It travels with a network, from the first training on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


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
        Above 0 for light glyphs on a dark ground: the part of the side that a glyph fills. A picture of
        another size than the network's is then cropped to its glyph and centred; a light page is inverted.
    dtype : str
        Of the stored pixels that it is for: ``"uint8"`` or ``"float32"``. Pixels of this type are put through it
        wherever they come from; float32 arrays beside ``"uint8"`` are network input already.

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
    dtype: str = "uint8"

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
        if self.dtype not in ("uint8", "float32"):
            raise ValueError(f"Preprocessing: dtype must be 'uint8' or 'float32', got {self.dtype!r:.100}")

    @property
    def changes_nothing(self) -> bool:
        """Whether network input is the pixels themselves."""
        return self.scale == 1 and not any(self.mean) and all(s == 1 for s in self.std)

    def apply(self, images: np.ndarray) -> np.ndarray:
        """Normalised float32 images of the same shape (N, C, ...)."""
        if len(self.mean) not in (1, images.shape[1]):
            last = images.ndim == 4 and images.shape[3] == len(self.mean)
            hint = "; is this (N, H, W, C)? images.transpose(0, 3, 1, 2) is (N, C, H, W)" if last else ""
            raise ValueError(
                f"Preprocessing for {len(self.mean)} channels, the images have {images.shape[1]}{hint}"
            )
        std = np.array(self.std)
        per_channel = (1, -1) + (1,) * (images.ndim - 2)
        factor = (self.scale / std).astype(np.float32).reshape(per_channel)
        shift = (-np.array(self.mean) / std).astype(np.float32).reshape(per_channel)
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
    if isinstance(values, (np.ndarray, np.generic)):  # as images.mean(axis=(0, 2, 3)) gives them
        values = values.tolist()
    if not isinstance(values, Sequence) or isinstance(values, str) or not values:
        raise ValueError(f"Preprocessing: {name} must be a sequence of numbers, got {values!r:.100}")
    if not all(isinstance(v, (int, float)) and not isinstance(v, bool) and abs(v) < 1e30 for v in values):
        raise ValueError(f"Preprocessing: {name} must be finite numbers, got {values!r:.100}")
    return tuple(float(v) for v in values)


def cure(preprocessing: Preprocessing | None) -> str:
    """What to say of uint8 pixels for a model that has no preprocessing for them."""
    has = "no preprocessing" if preprocessing is None else f"a preprocessing for {preprocessing.dtype} input"
    return (
        f"the model has {has}, so it does not know what uint8 pixels become: set model.preprocessing = "
        "fastcnn.data.Preprocessing(scale=..., mean=..., std=...) as in its training, train it with fit on uint8 "
        "images, or give float32 network input"
    )
