"""Write the bundled handwritten digits from scikit-learn's copy of the UCI test set.

    pip install scikit-learn && python tools/make_digits.py

The two IDX files hold the published numbers unchanged (8x8 counts of 0 to 16, in the published order), so
that anybody can compare them with the source. Splitting and resizing happen when they are read.
"""

from __future__ import annotations

import gzip
import io
import struct
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

FOLDER = Path(__file__).resolve().parents[1] / "python" / "fastcnn" / "data" / "files"


def idx_bytes(array: np.ndarray) -> bytes:
    """The IDX encoding of a uint8 array."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write(name: str, array: np.ndarray) -> None:
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=packed, mtime=0) as f:
        f.write(idx_bytes(array))
    (FOLDER / name).write_bytes(packed.getvalue())
    print(f"{name}: {array.shape}, {len(packed.getvalue())} bytes")


def main() -> None:
    source = load_digits()
    images = source.images.astype(np.uint8)  # (1797, 8, 8), counts of 0 to 16
    labels = source.target.astype(np.uint8)
    assert images.shape == (1797, 8, 8) and images.max() == 16 and np.array_equal(images, source.images)
    write("digits-images-idx3-ubyte.gz", images)
    write("digits-labels-idx1-ubyte.gz", labels)


if __name__ == "__main__":
    main()
