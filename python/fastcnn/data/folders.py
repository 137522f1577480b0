"""Images in folders, ``class/name.jpg``, on disk or inside a zip file, decoded by Pillow when first read.

Names inside a zip are only compared, never used as paths; nothing is unpacked to disk.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path, PurePosixPath

import numpy as np

from fastcnn.data.arrays import Preprocessing, shifted
from fastcnn.data.images import decode
from fastcnn.data.order import offsets

_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
_MAX_FILE_BYTES = 256 << 20


class _FolderFiles:
    """The image files of a folder, by their names relative to it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.names = sorted(
            path.relative_to(root).as_posix()
            for path in root.rglob("*")
            if path.suffix.lower() in _ENDINGS and path.is_file()
        )

    def read(self, name: str) -> bytes:
        return (self.root / name).read_bytes()


class _ZipFiles:
    """The image files inside a zip; ValueError for names that leave it and for huge files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names = []
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, ValueError, NotImplementedError, UnicodeDecodeError) as e:
            raise ValueError(f"{path}: not a readable zip file ({e})") from None
        for entry in self._zip.infolist():
            _check_name(path, entry.filename)
            if entry.is_dir() or not entry.filename.lower().endswith(_ENDINGS):
                continue
            if entry.file_size > _MAX_FILE_BYTES:
                raise ValueError(
                    f"{path}: {entry.filename}: {entry.file_size} bytes, more than {_MAX_FILE_BYTES}"
                )
            self.names.append(entry.filename)
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"{path}: the same name stands in it twice")
        self.names.sort()

    def read(self, name: str) -> bytes:
        try:
            with self._zip.open(name) as f:
                data = f.read(_MAX_FILE_BYTES + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as e:
            raise ValueError(f"{self.path}: {name} cannot be read ({e})") from None
        if len(data) > _MAX_FILE_BYTES:
            raise ValueError(f"{self.path}: {name} unpacks to more than {_MAX_FILE_BYTES} bytes")
        return data


def _check_name(path: Path, name: str) -> None:
    parts = PurePosixPath(name).parts
    if name.startswith("/") or "\\" in name or "\0" in name or ".." in parts or (parts and ":" in parts[0]):
        raise ValueError(f"{path}: the name {name!r} points outside the file")


class ImageFolder:
    """Images stored as ``class/name.jpg`` in a folder or a zip file; the classes are the folders, sorted.

    An image is decoded when it is first asked for, and then kept as uint8. Made by `image_folder`.
    """

    def __init__(
        self,
        files: _FolderFiles | _ZipFiles,
        where: str,
        names: list[str],
        labels: np.ndarray,
        classes: tuple[str, ...],
        preprocessing: Preprocessing,
        size: tuple[int, int] | None,
        shift: int,
    ) -> None:
        self.classes, self.preprocessing, self.labels, self.shift = classes, preprocessing, labels, shift
        self._files, self._where, self._names, self._size = files, where, names, size
        first = decode(files.read(names[0]), f"{where}: {names[0]}", preprocessing, size, glyph=False)
        self._shape = first.shape
        self._pixels = np.empty((len(names), *self._shape), np.uint8)  # memory is only taken when written
        self._known = np.zeros(len(names), bool)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        c, h, w = self._shape
        return c, h, w

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        sizes = "x".join(map(str, (len(self), *self._shape)))
        return f"ImageFolder({self._where}: {sizes}, {len(self.classes)} classes)"

    def subset(self, indices: np.ndarray) -> ImageFolder:
        """The images at these positions."""
        names = [self._names[i] for i in indices]
        labels = self.labels[indices]
        return ImageFolder(
            self._files, self._where, names, labels, self.classes, self.preprocessing, self._size, self.shift
        )

    def _decode(self, i: int) -> np.ndarray:
        name = f"{self._where}: {self._names[i]}"
        pixels = decode(self._files.read(self._names[i]), name, self.preprocessing, self._size, glyph=False)
        if pixels.shape != self._shape:
            got, first = (f"{s[2]}x{s[1]}" for s in (pixels.shape, self._shape))
            raise ValueError(f"{name}: {got} pixels, the first has {first}; give a size to resize all to it")
        return pixels

    def images(self, indices: np.ndarray) -> np.ndarray:
        """Pixels (N, C, H, W) uint8."""
        for i in np.unique(indices[~self._known[indices]]):
            self._pixels[i] = self._decode(int(i))
            self._known[i] = True
        return self._pixels[indices]

    def batch(self, indices: np.ndarray, key: tuple[int, int] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Normalised images (N, C, H, W) float32 and labels (N,) int64; see `fastcnn.data.Dataset.batch`."""
        images = self.images(indices)
        if self.shift and key is not None:
            images = shifted(images, offsets(key, indices, self.shift))
        return self.preprocessing.apply(images), self.labels[indices]


def image_folder(
    path: str | os.PathLike[str],
    *,
    under: str = "",
    size: tuple[int, int] | None = None,
    preprocessing: Preprocessing | None = None,
    shift: int = 0,
) -> ImageFolder:
    """Images stored as ``class/name.jpg`` in a folder or in a zip file.

    Parameters
    ----------
    path : path of the folder or the zip file
    under : str
        The folder inside `path` that holds the classes' folders, such as ``"cifar10/train"``.
    size : (height, width), optional
        What every image is resized to; without it all must have the size of the first.
    preprocessing : Preprocessing, optional
        By default RGB, scaled to 0..1.
    shift : int
        Random shifts in training, in pixels.

    Returns
    -------
    ImageFolder

    Raises
    ------
    FileNotFoundError
        When `path` does not exist.
    ValueError
        When there are no images in class folders, and for names in a zip that point outside it.
    """
    root = Path(path)
    files = _open(root)
    prefix = under.strip("/") + "/" if under.strip("/") else ""
    names, classes = [], []
    for name in files.names:
        parts = name[len(prefix) :].split("/")
        if name.startswith(prefix) and len(parts) == 2:
            names.append(name)
            classes.append(parts[0])
    if not names:
        raise ValueError(_no_images(root, prefix, files.names))
    labels_of = {c: i for i, c in enumerate(sorted(set(classes)))}
    where, labels = f"{root}/{prefix}".rstrip("/"), np.array([labels_of[c] for c in classes], np.int64)
    preprocessing = Preprocessing(mode="RGB") if preprocessing is None else preprocessing
    return ImageFolder(files, where, names, labels, tuple(labels_of), preprocessing, size, shift)


def class_parents(path: str | os.PathLike[str]) -> list[str]:
    """The folders inside `path` that hold folders of images: ``["cifar10/test", "cifar10/train"]``."""
    return _parents(_open(Path(path)).names)


def _open(root: Path) -> _FolderFiles | _ZipFiles:
    if root.is_dir():
        return _FolderFiles(root)
    if not root.exists():
        raise FileNotFoundError(f"{root}: no such folder or zip file")
    return _ZipFiles(root)


def _parents(names: list[str]) -> list[str]:
    return sorted({"/".join(n.split("/")[:-2]) for n in names if n.count("/") >= 1})


def _no_images(root: Path, prefix: str, names: list[str]) -> str:
    text = f"{root}: no images as {prefix}CLASS/NAME with an ending among {' '.join(_ENDINGS)}"
    deeper = [p for p in _parents(names) if p != prefix.rstrip("/")][:4]
    return text + (f"; there are some under {', '.join(map(repr, deeper))} (under=...)" if deeper else "")
