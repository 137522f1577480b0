"""Data sets: labelled images, kept as stored and normalised one batch at a time.

`digits` comes with the package; `mnist` and `fashion_mnist` read (or fetch) the published files;
`image_folder` reads ``class/name.jpg`` from a folder or a zip; `ArrayDataset` takes NumPy arrays.
"""

from typing import TYPE_CHECKING

from fastcnn import _names
from fastcnn.data.arrays import ArrayDataset, Dataset
from fastcnn.data.bundled import digits
from fastcnn.data.folders import ImageFolder, image_folder
from fastcnn.data.idx import read_idx, write_idx
from fastcnn.data.images import read_image
from fastcnn.data.inputs import as_dataset
from fastcnn.data.loader import Loader, batches
from fastcnn.data.preprocessing import Preprocessing
from fastcnn.data.published import fashion_mnist, mnist

__all__ = [
    "ArrayDataset", "Dataset", "ImageFolder", "Loader", "Preprocessing", "as_dataset", "batches", "digits",
    "fashion_mnist", "image_folder", "mnist", "read_idx", "read_image", "write_idx",
]  # fmt: skip

if not TYPE_CHECKING:
    __getattr__, __dir__ = _names.of(__name__, __all__, {"names": __all__})
