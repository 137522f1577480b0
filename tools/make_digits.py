"""Write the bundled handwritten digits from scikit-learn's copy of the UCI test set.

    pip install scikit-learn && python tools/make_digits.py   # beside an installed fastcnn

The two IDX files hold the published numbers unchanged (8x8 counts of 0 to 16, in the published order), so
that anybody can compare them with the source. Splitting and resizing happen when they are read.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from fastcnn.data import write_idx

FOLDER = Path(__file__).resolve().parents[1] / "python" / "fastcnn" / "data" / "files"


def main() -> None:
    source = load_digits()
    images = source.images.astype(np.uint8)  # (1797, 8, 8), counts of 0 to 16
    labels = source.target.astype(np.uint8)
    assert images.shape == (1797, 8, 8) and images.max() == 16 and np.array_equal(images, source.images)
    write_idx(FOLDER / "digits-images-idx3-ubyte.gz", images)
    write_idx(FOLDER / "digits-labels-idx1-ubyte.gz", labels)


if __name__ == "__main__":
    main()
