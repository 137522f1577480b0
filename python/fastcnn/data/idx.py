"""IDX, the file format of MNIST: a magic number, the sizes, then the numbers, big-endian; raw or gzipped.

http://yann.lecun.com/exdb/mnist/ ("the IDX file format"). Every header field is checked against the size of
the file before anything is allocated.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

_TYPES: dict[int, str] = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_CODES: dict[str, int] = {np.dtype(t).newbyteorder("=").str[1:]: code for code, t in _TYPES.items()}
_MAX_DIMENSIONS = 8
_DEFLATE_RATIO = 1032  # the most bytes that one byte of a deflate stream can stand for
_CHUNK = 1 << 20


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an IDX file, raw or gzipped (told apart by content, not by name).

    Parameters
    ----------
    path : path of the file

    Returns
    -------
    numpy.ndarray
        In native byte order, with the shape that the header states.

    Raises
    ------
    ValueError
        When any header field contradicts the file.
    OSError
        When the file cannot be opened.

    Examples
    --------
    >>> import tempfile, os
    >>> name = os.path.join(tempfile.mkdtemp(), "labels-idx1-ubyte.gz")
    >>> write_idx(name, np.array([7, 2, 1], np.uint8))
    >>> read_idx(name)
    array([7, 2, 1], dtype=uint8)
    """
    path = Path(path)
    with open(path, "rb") as raw:
        on_disk = os.fstat(raw.fileno()).st_size
        zipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if not zipped:
            return _read(raw, path, limit=on_disk, exact=on_disk)
        try:
            with gzip.GzipFile(fileobj=raw, mode="rb") as stream:
                return _read(stream, path, limit=on_disk * _DEFLATE_RATIO, exact=None)  # type: ignore[arg-type]
        except (EOFError, zlib.error, gzip.BadGzipFile, struct.error) as e:
            raise ValueError(f"{path}: damaged gzip file ({e})") from None


def _read(stream: BinaryIO, path: Path, limit: int, exact: int | None) -> np.ndarray:
    """Header, then data. `exact`: bytes of both where that is known; `limit`: what they cannot exceed."""
    dtype, shape = _read_header(stream, path)
    header = 4 + 4 * len(shape)
    expected = math.prod(shape) * dtype.itemsize
    says = f"{path}: the header says {'x'.join(map(str, shape))} of {dtype.name} = {expected} bytes"
    if exact is not None and expected != exact - header:
        raise ValueError(f"{says}, got {exact - header} bytes")
    if expected > limit:
        raise ValueError(f"{says}, more than this gzip file can hold")
    data = read_up_to(stream, expected + 1)  # one more: a longer file is seen, and gzip's checksum is tested
    if len(data) != expected:
        raise ValueError(f"{says}, got {f'{len(data)} bytes' if len(data) < expected else 'more'}")
    array = np.frombuffer(data, dtype).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False)


def _read_header(stream: BinaryIO, path: Path) -> tuple[np.dtype, tuple[int, ...]]:
    magic = stream.read(4)
    if len(magic) < 4:
        raise ValueError(f"{path}: expected an IDX file, got {len(magic)} bytes")
    zeros, code, dimensions = struct.unpack(">HBB", magic)
    if zeros != 0:
        raise ValueError(f"{path}: expected an IDX file (two zero bytes first), got {magic[:2].hex(' ')}")
    if code not in _TYPES:
        raise ValueError(f"{path}: expected an IDX element type (08 09 0b 0c 0d 0e), got {code:02x}")
    if not 1 <= dimensions <= _MAX_DIMENSIONS:
        raise ValueError(f"{path}: expected 1 to {_MAX_DIMENSIONS} dimensions, got {dimensions}")
    sizes = stream.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise ValueError(f"{path}: ends inside its header")
    return np.dtype(_TYPES[code]), struct.unpack(f">{dimensions}I", sizes)


def read_up_to(stream: BinaryIO, count: int) -> bytearray:
    """At most `count` bytes, in chunks: nothing is allocated that the file does not hold."""
    data = bytearray()
    while chunk := stream.read(min(_CHUNK, count - len(data))):
        data += chunk
    return data


def write_idx(path: str | os.PathLike[str], array: np.ndarray) -> None:
    """Write an array as IDX, gzipped when the name ends in ``.gz``.

    Parameters
    ----------
    path : path of the file
    array : numpy.ndarray
        uint8, int8, int16, int32, float32 or float64, with 1 to 8 dimensions.

    Raises
    ------
    ValueError
        When IDX has no code for the element type or the number of dimensions.
    """
    array = np.asarray(array)
    code = _CODES.get(array.dtype.str[1:])
    if code is None or not 1 <= array.ndim <= _MAX_DIMENSIONS:
        held = f"1 to {_MAX_DIMENSIONS} dimensions of {', '.join(_CODES)}"
        raise ValueError(f"IDX holds {held}, got {array.ndim} of {array.dtype}")
    header = struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape)
    data = header + array.astype(_TYPES[code]).tobytes()
    if str(path).endswith(".gz"):
        data = gzip.compress(data, mtime=0)
    Path(path).write_bytes(data)
