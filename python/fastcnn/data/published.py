"""MNIST and Fashion-MNIST from their published IDX files: found by their usual names, or downloaded once.

Y. LeCun, L. Bottou, Y. Bengio, P. Haffner: Gradient-based learning applied to document recognition, 1998.
H. Xiao, K. Rasul, R. Vollgraf: Fashion-MNIST, arXiv:1708.07747, 2017 (MIT licence).
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from pathlib import Path

import numpy as np

from fastcnn.data.arrays import ArrayDataset
from fastcnn.data.download import cache_folder, fetch
from fastcnn.data.idx import read_idx
from fastcnn.data.preprocessing import Preprocessing
from fastcnn.functional._arguments import flag

_Part = tuple[bool, str]  # train, "images" or "labels"


def _usual_names(part: _Part) -> list[str]:
    """The first is the published one."""
    train, kind = part
    stem, dimensions = f"{'train' if train else 't10k'}-{kind}", 3 if kind == "images" else 1
    return [f"{stem}{mark}idx{dimensions}-ubyte{end}" for end in (".gz", "") for mark in "-."]


@dataclasses.dataclass(frozen=True)
class _Published:
    title: str
    mirrors: tuple[str, ...]
    files: dict[_Part, tuple[str, int]]  # SHA-256 and size of the published gzip file
    classes: tuple[str, ...]
    preprocessing: Preprocessing

    @property
    def folder(self) -> str:
        return self.title.replace("-", "_").lower()


_MNIST = _Published(
    title="MNIST",
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    files={
        (True, "images"): ("440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609", 9912422),
        (True, "labels"): ("3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", 28881),
        (False, "images"): ("8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", 1648877),
        (False, "labels"): ("f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", 4542),
    },
    classes=tuple("0123456789"),
    preprocessing=Preprocessing(mean=(0.1307,), std=(0.3081,), glyph=20 / 28),
)

_FASHION_MNIST = _Published(
    title="Fashion-MNIST",
    mirrors=(
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
    files={
        (True, "images"): ("3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84", 26421880),
        (True, "labels"): ("a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845", 29515),
        (False, "images"): ("346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073", 4422102),
        (False, "labels"): ("67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5", 5148),
    },
    classes=tuple("T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot".split(",")),
    preprocessing=Preprocessing(mean=(0.2860,), std=(0.3530,), glyph=1.0),
)


def mnist(
    path: str | os.PathLike[str] | None = None, train: bool = True, *, download: bool = True, shift: int = 0
) -> ArrayDataset:
    """MNIST: 60,000 training and 10,000 test images of handwritten digits, 1x28x28.

    Parameters
    ----------
    path : path of a folder, optional
        Where the files are, or will be put: ``train-images-idx3-ubyte.gz``, ``train-labels-idx1-ubyte.gz``,
        ``t10k-images-idx3-ubyte.gz``, ``t10k-labels-idx1-ubyte.gz``; also unzipped, also with a dot before
        ``idx``, also in a subfolder ``mnist``, ``MNIST/raw`` or ``raw``. By default ``$FASTCNN_DATA``, then
        the user's cache folder.
    train : bool
        The training part or the test part.
    download : bool
        Fetch what is absent.
    shift : int
        Random shifts in training, in pixels.

    Returns
    -------
    ArrayDataset
        uint8 images (N, 1, 28, 28), classes "0" to "9".

    Raises
    ------
    FileNotFoundError
        When a file is absent and could not be downloaded; the text says what to put where.
    ValueError
        When a file is damaged or holds something else.
    """
    return _load(_MNIST, path, train, download, shift)


def fashion_mnist(
    path: str | os.PathLike[str] | None = None, train: bool = True, *, download: bool = True, shift: int = 0
) -> ArrayDataset:
    """Fashion-MNIST: 60,000 training and 10,000 test images of ten kinds of clothing, 1x28x28.

    The parameters are those of `mnist`; the subfolders ``fashion_mnist``, ``FashionMNIST/raw``, ``raw``.
    """
    return _load(_FASHION_MNIST, path, train, download, shift)


def _load(
    which: _Published, path: str | os.PathLike[str] | None, train: bool, download: bool, shift: int
) -> ArrayDataset:
    train = bool(flag(which.folder, "train", train))
    images_path = _locate(which, path, (train, "images"), download)
    labels_path = _locate(which, path, (train, "labels"), download)
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (28, 28):
        raise ValueError(f"{images_path}: expected Nx28x28 of uint8, got {images.shape} of {images.dtype}")
    if labels.dtype != np.uint8 or labels.ndim != 1:
        raise ValueError(f"{labels_path}: expected N of uint8, got {labels.shape} of {labels.dtype}")
    if len(images) != len(labels):
        raise ValueError(f"{labels_path}: {len(labels)} labels for the {len(images)} images of {images_path}")
    if labels.size and labels.max() > 9:
        raise ValueError(f"{labels_path}: expected labels of 0 to 9, got {labels.max()}")
    return ArrayDataset(images, labels, which.classes, which.preprocessing, shift).assumed()


def _folders(which: _Published, path: str | os.PathLike[str] | None) -> list[Path]:
    """Where to look; the first is where a download goes when `path` is given, the last when it is not."""
    if path is not None:
        root = Path(path)
        if root.exists() and not root.is_dir():
            raise NotADirectoryError(f"{root} is a file; give the folder that holds {which.title}'s files")
        camel = which.title.replace("-", "")
        return [root, root / which.folder, root / camel / "raw", root / "raw"]
    shared = os.environ.get("FASTCNN_DATA")
    return [*([Path(shared) / which.folder] if shared else []), cache_folder() / which.folder]


def _locate(which: _Published, path: str | os.PathLike[str] | None, part: _Part, download: bool) -> Path:
    folders = _folders(which, path)
    for folder, name in itertools.product(folders, _usual_names(part)):
        if (folder / name).is_file():
            return folder / name
    target = folders[0] if path is not None else folders[-1]
    file = _usual_names(part)[0]
    reason = f"{' and '.join(which.mirrors)} have it, downloading is switched off"
    if download:
        try:
            return fetch(file, which.mirrors, *which.files[part], target)
        except OSError as e:  # no network, or a folder that cannot be written
            reason = f"not downloaded from {e}"
    names = ", ".join(sorted(_usual_names(p)[0] for p in which.files))
    raise FileNotFoundError(f"{which.title}: {file} is not in {target} ({reason}). Put {names} there")
