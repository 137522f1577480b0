"""Files that are written whole or not at all, and output places that are tried before anything slow."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path

Name = str | os.PathLike[str]


def check_place(path: Name) -> None:
    """Try to begin writing a file, without leaving or changing anything.

    Raises
    ------
    OSError
        That `write_whole` would raise now: it names the path.
    """
    target = Path(path)
    try:
        if _exists_as_device(target):
            if not os.access(target, os.W_OK):
                raise PermissionError(errno.EACCES, "not writable")
        else:
            handle, temporary = _begun(target)
            os.close(handle)
            os.unlink(temporary)
    except OSError as e:
        raise _of(e, target) from None


def write_whole(path: Name, data: bytes) -> None:
    """Write a file whole or not at all: a temporary file beside it, fsync, rename.

    Links stay, and what they point to is replaced. Devices, pipes and this process's own output are written
    through: they are never replaced.
    """
    target = Path(path)
    try:
        if _exists_as_device(target):
            _write_through(target, data)
        else:
            _replace(target, data)
    except OSError as e:
        raise _of(e, target) from None


def keeps_its_content(path: Name) -> bool:
    """Whether a file is there that `write_whole` would replace."""
    return os.path.exists(path) and not _exists_as_device(Path(path))


def _of(error: OSError, target: Path) -> OSError:
    """The same error about the target, not about a temporary file."""
    return type(error)(error.errno, error.strerror or str(error), str(target))


def _exists_as_device(target: Path) -> bool:
    """Something is there that is no file of its own: a device, a pipe, or where our output already goes."""
    try:
        there = os.stat(target)
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(there.st_mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder; give the name of a file")
    return not stat.S_ISREG(there.st_mode) or _own_output(there) is not None


def _own_output(there: os.stat_result) -> int | None:
    for handle in (1, 2):
        try:
            if os.path.samestat(os.fstat(handle), there):
                return handle
        except OSError:  # closed
            continue
    return None


def _write_through(target: Path, data: bytes) -> None:
    own = _own_output(os.stat(target))
    with open(target, "wb") if own is None else os.fdopen(os.dup(own), "wb") as f:
        f.write(data)


def _begun(target: Path) -> tuple[int, str]:
    """An open temporary file in the folder where the target is, and its name."""
    place = Path(os.path.realpath(target))
    if not place.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "give a name in a folder that exists")
    return tempfile.mkstemp(dir=place.parent, prefix=f".{place.name[:40]}.", suffix=".part")


def _replace(target: Path, data: bytes) -> None:
    place = Path(os.path.realpath(target))  # links stay
    handle, temporary = _begun(target)
    try:
        with os.fdopen(handle, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.chmod(temporary, _file_mode(place))
        os.replace(temporary, place)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_folder(place.parent)


def _file_mode(place: Path) -> int:
    """That of the file that is replaced, or what a new file gets here."""
    if place.exists():
        return stat.S_IMODE(place.stat().st_mode)
    mask = os.umask(0o077)
    os.umask(mask)
    return 0o666 & ~mask


def _sync_folder(folder: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
