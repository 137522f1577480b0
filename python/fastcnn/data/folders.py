"""Images in class folders, ``class/name.jpg``, on disk or inside a zip file, decoded by Pillow when first read."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastcnn.data.files import ENDINGS, open_files
from fastcnn.data.images import decode, is_grey, looks_readable, size_and_mode
from fastcnn.data.preprocessing import Preprocessing, cure
from fastcnn.data.stored import StoredImages, class_text, counted, size_text

_UNREAD = (".heic", ".heif", ".avif", ".jxl", ".jp2", ".ico", ".svg", ".psd", ".cr2", ".nef", ".dng", ".arw")


class ImageFolder(StoredImages):
    """Images stored as ``class/name.jpg`` in a folder or in a zip file; the classes are the folders, sorted.

    An image is decoded when it is first asked for, and then kept as uint8.

    Parameters
    ----------
    path : path of the folder or the zip file
    under : str
        The folder inside `path` that holds the classes' folders, such as ``"cifar10/train"``.
    size : (height, width), optional
        What every image is brought to; without it all must have the size of the first.
    preprocessing : Preprocessing, optional
        By default RGB, scaled to 0..1; a model that has a preprocessing of its own then uses that.
    shift : int
        Random shifts in training, in pixels.
    classes : sequence of str, optional
        Names of class folders in the order of a network's outputs; some may have no folder here.
    on_error : "raise" or "skip"
        What to do about files that are no readable images. "skip" decodes all now and leaves those out (see
        ``skipped``); "raise" looks at the first bytes of each file now, and decodes when an image is asked for.

    Attributes
    ----------
    skipped : tuple of str
        Names of files that were left out.

    Raises
    ------
    FileNotFoundError
        When `path` does not exist.
    ValueError
        When there are no images in class folders, when a file is none, and for names in a zip that point
        outside it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        under: str = "",
        size: tuple[int, int] | None = None,
        preprocessing: Preprocessing | None = None,
        shift: int = 0,
        classes: Sequence[str] | None = None,
        on_error: str = "raise",
    ) -> None:
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error must be 'raise' or 'skip', got {on_error!r:.60}")
        if preprocessing is None:
            self._assumed = preprocessing = Preprocessing(mode="RGB")
        if not isinstance(preprocessing, Preprocessing):
            raise TypeError(f"preprocessing must be a fastcnn.data.Preprocessing, got {preprocessing!r:.60}")
        if preprocessing.dtype != "uint8":
            raise ValueError(cure(preprocessing))
        root = Path(path)
        self._files = open_files(root)
        prefix = under.strip("/") + "/" if under.strip("/") else ""
        self._where = f"{root}/{prefix}".rstrip("/")
        self._size = None if size is None else _checked_size(size)
        self.preprocessing, self.shift = preprocessing, shift
        self.skipped: tuple[str, ...] = ()
        names = [n for n in self._files.names if n.startswith(prefix) and n[len(prefix) :].count("/") == 1]
        if not names:
            raise ValueError(_no_images(root, prefix, self._files.names))
        folders = [n[len(prefix) :].split("/")[0] for n in names]
        self.classes = _ordered(self._where, sorted(set(folders)), classes)
        _warn_of_others(self._where, prefix, self._files.others, set(folders))
        number = {c: i for i, c in enumerate(self.classes)}
        self._names, self.labels = names, np.array([number[f] for f in folders], np.int64)
        self._root, self._on_error = root, on_error
        if on_error == "raise":
            self._look_at_all()
        self._start()

    @property
    def images(self) -> np.ndarray:
        """Pixels (N, C, H, W) uint8: all of them are decoded now. `subset` first takes a few."""
        return self.pixels(np.arange(len(self)))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(C, H, W) of one image."""
        return self._shape

    def __repr__(self) -> str:
        sizes = "x".join(map(str, (len(self), *self._shape)))
        return f"ImageFolder({self._where}: {sizes}, {class_text(self.classes)})"

    def describe(self) -> str:
        """One line: how many images, of what kind (the first one), and what the network sees of them."""
        width, height, mode = size_and_mode(self._files.read(self._names[0]))
        stored, seen = size_text((1 if is_grey(mode) else 3, height, width)), size_text(self._shape)
        glyph = ", glyphs centred" if self.preprocessing.glyph and (1, height, width) != self._shape else ""
        change = f" -> {seen}{glyph}" if stored != seen or glyph else ""
        left_out = f", {len(self.skipped):,} left out" if self.skipped else ""
        return f"{counted(len(self), 'image')} {stored}{change}, {class_text(self.classes)}{left_out}"

    @property
    def dtype(self) -> str:
        return "uint8"

    def _fit_to(self, input_shape: tuple[int, ...] | None) -> None:
        if self._size is None and input_shape is not None and len(input_shape) == 3:
            self._size = input_shape[1:]
        if self._decoded != self._how():
            self._start()

    def _how(self) -> tuple[Any, ...]:
        """What decoding depends on."""
        return self.preprocessing.mode, self.preprocessing.glyph, self._size

    # ---- decoding

    def _look_at_all(self) -> None:
        bad = [name for name in self._names if not looks_readable(self._files.begin(name))]
        if bad:
            self._read(bad[0], f", and {len(bad) - 1:,} more" if len(bad) > 1 else "")

    def _read(self, name: str, more: str = "") -> np.ndarray:
        try:
            return decode(self._files.read(name), f"{self._root}/{name}", self.preprocessing, self._size)
        except ValueError as e:
            raise ValueError(
                f"{e}{more}; on_error='skip' (--skip-unreadable) leaves such files out"
            ) from None

    def _start(self) -> None:
        """An empty memory for decoded pixels, as large as the first image asks for; full when errors are skipped."""
        self._decoded, skip = self._how(), self._on_error == "skip"
        good: list[int] = []
        for i, name in enumerate(self._names):
            try:
                pixels = self._read(name)
            except (ValueError, OSError):
                if not skip:
                    raise
                continue
            if not good:
                self._shape = pixels.shape
                self._memory = np.empty((len(self._names), *pixels.shape), np.uint8)  # taken when written
                self._known = np.zeros(len(self._names), bool)
            self._keep(i, pixels)
            good.append(i)
            if not skip:
                return
        if not good:
            raise ValueError(f"{self._where}: none of its {len(self._names)} images can be read")
        self.skipped += tuple(sorted({*self._names} - {self._names[i] for i in good}))
        self._take(np.array(good))

    def _keep(self, i: int, pixels: np.ndarray) -> None:
        if pixels.shape != self._shape:
            got, first = (f"{s[2]}x{s[1]}" for s in (pixels.shape, self._shape))
            raise ValueError(
                f"{self._root}/{self._names[i]}: {got} pixels, the first has {first}; give a size=(height, width) to "
                "bring all to it"
            )
        self._memory[i], self._known[i] = pixels, True

    def pixels(self, positions: np.ndarray) -> np.ndarray:
        for i in np.unique(positions[~self._known[positions]]):
            self._keep(int(i), self._read(self._names[i]))
        return self._memory[positions]

    def _take(self, positions: np.ndarray) -> None:
        self._names = [self._names[i] for i in positions]
        self.labels, self._known = self.labels[positions], self._known[positions]
        memory = np.empty((len(positions), *self._shape), np.uint8)
        memory[self._known] = self._memory[positions[self._known]]
        self._memory = memory


image_folder = ImageFolder  # as the other data sets are called


def class_parents(path: str | os.PathLike[str]) -> list[str]:
    """The folders inside `path` that hold folders of images: ``["cifar10/test", "cifar10/train"]``."""
    return _parents(open_files(Path(path)).names)


def _parents(names: list[str]) -> list[str]:
    return sorted({"/".join(n.split("/")[:-2]) for n in names if n.count("/") >= 1})


def _checked_size(size: Any) -> tuple[int, int]:
    pair = tuple(size) if isinstance(size, (tuple, list)) else ()
    if len(pair) != 2 or not all(isinstance(n, (int, np.integer)) and n > 0 for n in pair):
        raise ValueError(f"size must be (height, width), such as (32, 32), got {size!r:.60}")
    return int(pair[0]), int(pair[1])


def _ordered(where: str, found: list[str], classes: Sequence[str] | None) -> tuple[str, ...]:
    if classes is None:
        return tuple(found)
    unknown = [c for c in found if c not in classes]
    if unknown:
        raise ValueError(
            f"{where}: class folders {_some(found)}; the model knows the classes {_some(classes)}"
        )
    return tuple(classes)


def _some(classes: Sequence[str]) -> str:
    return ", ".join(classes[:12]) + (f", ... ({len(classes)})" if len(classes) > 12 else "")


def _warn_of_others(where: str, prefix: str, others: list[str], classes: set[str]) -> None:
    """A line each for class folders without images, and for pictures of formats that are not read."""
    inside = [name[len(prefix) :] for name in others if name.startswith(prefix)]
    # A zip may name its folders or not: what a folder holds names it too.
    empty = sorted({name.split("/")[0] for name in inside if "/" in name} - classes)
    if empty:
        warnings.warn(f"{where}: no images in {_some(empty)}: left out", UserWarning, stacklevel=3)
    unread = [name for name in inside if name.lower().endswith(_UNREAD)]
    if unread:
        kinds = ", ".join(sorted({os.path.splitext(name)[1].lower() for name in unread}))
        text = f"{where}: {counted(len(unread), 'file')} with {kinds} left out: convert them to JPEG or PNG"
        warnings.warn(text, UserWarning, stacklevel=3)


def _no_images(root: Path, prefix: str, names: list[str]) -> str:
    text = f"{root}: no images as {prefix}CLASS/NAME with an ending among {' '.join(ENDINGS)}"
    deeper = [p for p in _parents(names) if p != prefix.rstrip("/")][:4]
    return text + (f"; there are some under {', '.join(map(repr, deeper))} (under=...)" if deeper else "")
