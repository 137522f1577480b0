"""The files of a folder or a zip, by their names. Names in a zip are only compared; nothing is unpacked to disk."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
_MAX_FILE_BYTES = 256 << 20


class FolderFiles:
    """A folder's image files by their names relative to it.

    Attributes
    ----------
    names : list of str
        Of image files, sorted; what systems and editors hide (``.ipynb_checkpoints``, ``__MACOSX``) is left out.
    others : list of str
        Of other files and of folders, these with a slash behind.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.names: list[str] = []
        self.others: list[str] = []
        paths = {os.fspath(root): {_identity(root)}}  # what each folder still to come lies in, by identity
        for folder, folders, files in os.walk(root, followlinks=True):
            above = paths.pop(folder)
            inside = {f: _identity(os.path.join(folder, f)) for f in folders if not _is_hidden(f)}
            folders[:] = sorted(f for f, own in inside.items() if own not in above)  # no links to a parent
            paths.update((os.path.join(folder, f), above | {inside[f]}) for f in folders)
            under = Path(folder).relative_to(root).as_posix()
            prefix = "" if under == "." else f"{under}/"
            self.others += [f"{prefix}{f}/" for f in folders]
            for name in files:
                if not _is_hidden(name):
                    (self.names if name.lower().endswith(ENDINGS) else self.others).append(prefix + name)
        self.names.sort()

    def read(self, name: str) -> bytes:
        return self._read(name, -1)

    def begin(self, name: str) -> bytes:
        """The first bytes."""
        return self._read(name, 16)

    def _read(self, name: str, count: int) -> bytes:
        try:
            with open(self.root / name, "rb", buffering=0) as f:
                return f.read(count)
        except FileNotFoundError:
            raise FileNotFoundError(f"{self.root / name}: gone since the folder was opened") from None


class ZipFiles:
    """The same of a zip file; ValueError for names that leave it and for huge files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: list[str] = []
        self.others: list[str] = []
        self._held: tuple[int, zipfile.ZipFile] | None = None
        try:
            entries = self._zip().infolist()
        except (zipfile.BadZipFile, ValueError, NotImplementedError, UnicodeDecodeError) as e:
            raise ValueError(f"{path}: not a readable zip file ({e})") from None
        for entry in entries:
            _check_name(path, entry.filename)
            if any(map(_is_hidden, entry.filename.split("/"))):
                continue
            if entry.is_dir() or not entry.filename.lower().endswith(ENDINGS):
                self.others.append(entry.filename)
                continue
            if entry.file_size > _MAX_FILE_BYTES:
                raise ValueError(
                    f"{path}: {entry.filename}: {entry.file_size} bytes, more than {_MAX_FILE_BYTES}"
                )
            self.names.append(entry.filename)
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"{path}: the same name stands in it twice")
        self.names.sort()

    def _zip(self) -> zipfile.ZipFile:
        """The file, opened in this process: a forked one would share the place where its parent reads."""
        held = self._held
        if held is None or held[0] != os.getpid():
            held = self._held = os.getpid(), zipfile.ZipFile(self.path)
        return held[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_held": None}

    def read(self, name: str) -> bytes:
        data = self._read(name, _MAX_FILE_BYTES + 1)
        if len(data) > _MAX_FILE_BYTES:
            raise ValueError(f"{self.path}: {name} unpacks to more than {_MAX_FILE_BYTES} bytes")
        return data

    def begin(self, name: str) -> bytes:
        """The first bytes."""
        return self._read(name, 16)

    def _read(self, name: str, count: int) -> bytes:
        try:
            with self._zip().open(name) as f:
                return f.read(count)
        except (FileNotFoundError, KeyError):  # another process opens it anew
            what = f"{name} is gone from it" if self.path.exists() else "gone"
            raise FileNotFoundError(f"{self.path}: {what} since it was opened") from None
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as e:
            raise ValueError(f"{self.path}: {name} cannot be read ({e})") from None


def open_files(root: Path) -> FolderFiles | ZipFiles:
    if root.is_dir():
        return FolderFiles(root)
    if not root.exists():
        raise FileNotFoundError(f"{root}: no such folder or zip file")
    return ZipFiles(root)


def _identity(folder: str | Path) -> tuple[int, int]:
    """The same for every path that leads to this folder."""
    found = os.stat(folder)
    return found.st_dev, found.st_ino


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _check_name(path: Path, name: str) -> None:
    parts = PurePosixPath(name).parts
    if name.startswith("/") or "\\" in name or "\0" in name or ".." in parts or (parts and ":" in parts[0]):
        raise ValueError(f"{path}: the name {name!r} points outside the file")
