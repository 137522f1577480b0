"""Data sets by name or by path, as the command line names them: a training part and a held-out part."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from fastcnn.data import order
from fastcnn.data.arrays import Dataset, Preprocessing
from fastcnn.data.bundled import digits
from fastcnn.data.folders import ImageFolder, class_parents, image_folder
from fastcnn.data.published import fashion_mnist, mnist

_PUBLISHED: dict[str, Any] = {"mnist": mnist, "fashion_mnist": fashion_mnist}
NAMES = ("digits", *_PUBLISHED)
_TRAIN = ("train", "training")
_HELD_OUT = ("test", "testing", "val", "valid", "validation")
_STATISTICS_IMAGES = 2000


def label(name: str) -> str:
    """A short text for file names: ``"mnist"``, or the last part of a path without its ending."""
    return name if name in NAMES else Path(name).stem


def open_parts(
    name: str, folder: Path | None, input_shape: tuple[int, int, int], shift: int | None = None
) -> tuple[Dataset, Dataset]:
    """Training and held-out part of a data set.

    Parameters
    ----------
    name : str
        One of `NAMES`, or the path of a folder or zip file of images ``CLASS/NAME.jpg``; with ``train`` and
        ``test`` folders around the classes, or without: then every fifth image of a class is held out.
    folder : path, optional
        Where MNIST's files are.
    input_shape : (C, H, W)
        What images in folders are brought to.
    shift : int, optional
        Random shifts in training, in pixels.

    Raises
    ------
    ValueError
        For a name that is neither, and for damaged files.
    OSError
        For files that are absent or cannot be read.
    """
    name = _canonical(name)
    if name in NAMES:
        return _named(name, folder, True, shift), _named(name, folder, False)
    train, held_out = _open_folder(Path(name), input_shape)
    train.preprocessing = held_out.preprocessing = _measured(train)
    train.shift = shift or 0
    return train, held_out


def open_held_out(
    name: str,
    folder: Path | None,
    input_shape: tuple[int, int, int],
    preprocessing: Preprocessing | None,
    classes: tuple[str, ...] | None,
) -> Dataset:
    """The held-out part, normalised as the model wants it.

    Raises
    ------
    ValueError
        When its classes or its images are not those of the model; otherwise as `open_parts`.
    """
    name = _canonical(name)
    data: Any = _named(name, folder, False) if name in NAMES else _open_folder(Path(name), input_shape)[1]
    if classes is not None and data.classes != classes:
        known, got = _some(classes), _some(data.classes)
        raise ValueError(f"{name}: the model knows the classes {known}, the data has {got}")
    if preprocessing is not None:
        data.preprocessing = preprocessing
    return data


def _named(name: str, folder: Path | None, train: bool, shift: int | None = None) -> Dataset:
    return (
        digits(train, shift=shift) if name == "digits" else _PUBLISHED[name](folder, train, shift=shift or 0)
    )


def _canonical(name: str) -> str:
    plain = name.replace("-", "_").lower()
    if plain in NAMES:
        return plain
    if not Path(name).exists():
        known = ", ".join(NAMES)
        raise ValueError(
            f"no data set named {name!r}: give {known}, or a folder or zip of images CLASS/NAME.jpg"
        )
    return name


def _some(classes: tuple[str, ...]) -> str:
    return ", ".join(classes[:12]) + (f", ... ({len(classes)})" if len(classes) > 12 else "")


def _open_folder(path: Path, input_shape: tuple[int, int, int]) -> tuple[ImageFolder, ImageFolder]:
    preprocessing = Preprocessing(mode="L" if input_shape[0] == 1 else "RGB")
    size = input_shape[1:]

    def read(under: str) -> ImageFolder:
        return image_folder(path, under=under, size=size, preprocessing=preprocessing)

    parents = class_parents(path)
    train = [p for p in parents if p.split("/")[-1].lower() in _TRAIN]
    held_out = [p for p in parents if p.split("/")[-1].lower() in _HELD_OUT]
    if len(train) == 1 and len(held_out) == 1:
        first, second = read(train[0]), read(held_out[0])
        if first.classes != second.classes:
            raise ValueError(f"{path}: {train[0]} and {held_out[0]} hold different classes")
        return first, second
    if len(parents) > 1:
        found = ", ".join(parents)
        raise ValueError(f"{path}: expected a train and a test folder, or one with classes, got {found}")
    everything = read(parents[0] if parents else "")
    chosen = order.held_out(everything.labels)
    if not chosen.any():
        raise ValueError(f"{path}: too few images to hold some out: at least five of one class are needed")
    return everything.subset(np.flatnonzero(~chosen)), everything.subset(np.flatnonzero(chosen))


def _measured(data: ImageFolder) -> Preprocessing:
    """Mean and standard deviation of each channel, of evenly spaced images."""
    count = min(len(data), _STATISTICS_IMAGES)
    images = data.images(np.arange(count) * len(data) // count) / 255.0
    std = np.maximum(images.std(axis=(0, 2, 3)), 1e-3).tolist()
    mean = images.mean(axis=(0, 2, 3)).tolist()
    return dataclasses.replace(data.preprocessing, mean=tuple(mean), std=tuple(std))
