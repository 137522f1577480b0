"""ResNet-20 with published weights on real images: every prediction is PyTorch's.

Needs a folder, named by FASTCNN_DATA, with ``weights/resnet20-12fca82f.th`` (akamaster's pytorch_resnet_cifar10) and
``cifar10_jpeg.zip`` (CIFAR-10 as ``cifar10/test/CLASS/NNNN.jpg``, a JPEG copy); skipped without it.
"""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

import fastcnn

DATA = Path(os.environ.get("FASTCNN_DATA", "/nonexistent"))
WEIGHTS, IMAGES = DATA / "weights" / "resnet20-12fca82f.th", DATA / "cifar10_jpeg.zip"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


def thousand_images() -> tuple[np.ndarray, np.ndarray]:
    """The first hundred test images of each class, normalised, NCHW."""
    from PIL import Image

    images, labels = [], []
    with zipfile.ZipFile(IMAGES) as archive:
        names = sorted(n for n in archive.namelist() if "/test/" in n and n.endswith(".jpg"))
        for label, name in enumerate(CLASSES):
            for path in [n for n in names if f"/{name}/" in n][:100]:
                with Image.open(io.BytesIO(archive.read(path))) as image:
                    images.append(np.asarray(image.convert("RGB"), np.float32) / 255)
                labels.append(label)
    x = (np.stack(images) - MEAN) / STD
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)), np.array(labels)


@pytest.mark.skipif(
    not (WEIGHTS.is_file() and IMAGES.is_file()), reason="FASTCNN_DATA has no pretrained ResNet-20"
)
def test_predictions_equal_pytorch() -> None:
    torch = pytest.importorskip("torch")
    from fastcnn.bench import peers

    state = torch.load(WEIGHTS, map_location="cpu", weights_only=True)["state_dict"]
    model = fastcnn.models.create("resnet20_cifar")
    model.load_state_dict(state)
    model.eval()
    peer = peers.resnet20_cifar()
    own = {k.removeprefix("module."): v for k, v in state.items()}
    peer.load_state_dict(own, strict=False)
    peer.eval()
    x, labels = thousand_images()
    assert len(x) == 1000
    ours = np.concatenate([model(x[i : i + 250]) for i in range(0, 1000, 250)])
    with torch.no_grad():
        theirs = peer(torch.from_numpy(x)).numpy()
    np.testing.assert_array_equal(ours.argmax(1), theirs.argmax(1))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-3)
    accuracy = float((ours.argmax(1) == labels).mean())
    print(f"accuracy on 1,000 images: {accuracy:.1%}")
    assert 0.78 < accuracy < 0.83
