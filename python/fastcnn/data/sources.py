"""Data sets by name or by path, as the command line names them: a training part and a held-out part."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastcnn.data.bundled import digits
from fastcnn.data.folders import ImageFolder, class_parents
from fastcnn.data.preprocessing import Preprocessing
from fastcnn.data.published import fashion_mnist, mnist
from fastcnn.data.stored import StoredImages

_PUBLISHED: dict[str, Any] = {"mnist": mnist, "fashion_mnist": fashion_mnist}
NAMES = ("digits", *_PUBLISHED)
_TRAIN = ("train", "training")
_VALIDATION = ("val", "valid", "validation")
_TEST = ("test", "testing")
_STATISTICS_IMAGES = 2000


def label(name: str) -> str:
    """A short text for file names: ``"mnist"``, or the last part of a path without its ending.

    >>> label("Fashion-MNIST"), label("photos/birds.zip")
    ('fashion_mnist', 'birds')
    """
    plain = _plain(name)
    return plain if plain in NAMES else Path(name).stem


def open_parts(
    name: str,
    folder: Path | None,
    input_shape: tuple[int, int, int],
    shift: int | None = None,
    on_error: str = "raise",
) -> tuple[StoredImages, StoredImages]:
    """Training and held-out part of a data set.

    Parameters
    ----------
    name : str
        One of `NAMES`, or the path of a folder or zip file of images ``CLASS/NAME.jpg``; with ``train`` and
        ``val`` or ``test`` folders around the classes (of both, ``val`` is held out here and ``test`` is left for
        `open_held_out`), or without: then every fifth image of a class is held out.
    folder : path, optional
        Where MNIST's files are.
    input_shape : (C, H, W)
        What images in folders are brought to.
    shift : int, optional
        Random shifts in training, in pixels.
    on_error : "raise" or "skip"
        What to do about files in folders that are no readable images.

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
    path = Path(name)
    options: dict[str, Any] = {
        "size": input_shape[1:],
        "preprocessing": Preprocessing(mode="L" if input_shape[0] == 1 else "RGB"),
        "on_error": on_error,
    }
    parents = class_parents(path)
    train_part = _one_of(parents, _TRAIN)
    held_part = _one_of(parents, _VALIDATION) or _one_of(parents, _TEST)
    if train_part is not None and held_part is not None:
        train = ImageFolder(path, under=train_part, **options)
        held_out = ImageFolder(path, under=held_part, classes=train.classes, **options)
    else:
        everything = ImageFolder(path, under=_only(path, parents), **options)
        train, held_out = everything.split(0.2)
        if not len(held_out):
            raise ValueError(
                f"{path}: too few images to hold some out: at least five of one class are needed"
            )
    if len(train.classes) < 2:
        raise ValueError(
            f"{path}: all images are of one class, {train.classes[0]!r}: expected a folder for each class"
        )
    train.preprocessing = held_out.preprocessing = _measured(train)
    train.shift = shift or 0
    return train, held_out


def open_held_out(
    name: str,
    folder: Path | None,
    input_shape: tuple[int, int, int],
    preprocessing: Preprocessing | None,
    classes: tuple[str, ...] | None,
    on_error: str = "raise",
) -> StoredImages:
    """The held-out part, as the model wants it; of a folder its ``test`` part, else its ``val`` part, else all of it.

    Raises
    ------
    ValueError
        When its classes or its images are not those of the model; otherwise as `open_parts`.
    """
    name = _canonical(name)
    if name in NAMES:
        data = _named(name, folder, False)
        if classes is not None and data.classes != classes:
            known, got = _some(classes), _some(data.classes)
            raise ValueError(f"{name}: the model knows the classes {known}, the data has {got}")
        if preprocessing is None:
            text = f"the model's file does not say what pixels become: {name}'s own preprocessing is used"
            warnings.warn(text, UserWarning, stacklevel=2)
        return data.fitted(preprocessing)
    path = Path(name)
    parents = class_parents(path)
    part = _one_of(parents, _TEST) or _one_of(parents, _VALIDATION)
    under = _only(path, parents) if part is None else part
    if preprocessing is None:
        raise ValueError(
            f"the model's file does not say what pixels become, so {path} cannot be read: load the model, set "
            "model.preprocessing = fastcnn.data.Preprocessing(...) as in its training, and save it again"
        )
    return ImageFolder(
        path,
        under=under,
        size=input_shape[1:],
        preprocessing=preprocessing,
        classes=classes,
        on_error=on_error,
    )


def _named(name: str, folder: Path | None, train: bool, shift: int | None = None) -> StoredImages:
    if name == "digits":
        return digits(train, shift=shift)
    data: StoredImages = _PUBLISHED[name](folder, train, shift=shift or 0)
    return data


def _plain(name: str) -> str:
    return name.replace("-", "_").lower()


def _canonical(name: str) -> str:
    if _plain(name) in NAMES:
        return _plain(name)
    if not Path(name).exists():
        known = ", ".join(NAMES)
        raise ValueError(
            f"no data set named {name!r}: give {known}, or a folder or zip of images CLASS/NAME.jpg"
        )
    return name


def _some(classes: Sequence[str]) -> str:
    return ", ".join(classes[:12]) + (f", ... ({len(classes)})" if len(classes) > 12 else "")


def _one_of(parents: list[str], names: tuple[str, ...]) -> str | None:
    """The one folder of classes that has such a name."""
    found = [p for p in parents if p.split("/")[-1].lower() in names]
    return found[0] if len(found) == 1 else None


def _only(path: Path, parents: list[str]) -> str:
    if len(parents) > 1:
        found = ", ".join(parents)
        raise ValueError(
            f"{path}: expected a train and a test (or val) folder, or one with classes, got {found}"
        )
    return parents[0] if parents else ""


def _measured(data: ImageFolder) -> Preprocessing:
    """Mean and standard deviation of each channel, of evenly spaced images."""
    count = min(len(data), _STATISTICS_IMAGES)
    images = data.pixels(np.arange(count) * len(data) // count) / 255.0
    std = np.maximum(images.std(axis=(0, 2, 3)), 1e-3).tolist()
    mean = images.mean(axis=(0, 2, 3)).tolist()
    return dataclasses.replace(data.preprocessing, mean=tuple(mean), std=tuple(std))
