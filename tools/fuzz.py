"""Coverage-guided fuzzing of the readers: for any bytes they give a result, ValueError or OSError, nothing else.

    pip install atheris
    python tools/fuzz.py idx|image|zip|model|architecture [-max_total_time=600] [other options of libFuzzer]

`model` takes the bytes as a model file; `architecture` as the description inside a good one, and runs what loads.
"""

from __future__ import annotations

import io as bytesio
import json
import os
import random
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris
import numpy as np

with atheris.instrument_imports(include=["fastcnn"]):
    import fastcnn
    from fastcnn import data, io, models, nn
    from fastcnn.models import recording, tree  # noqa: F401

SCRATCH = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
MAX_ARENA = 64 << 20


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.gain = nn.Parameter(np.ones((4, 1, 1, 1)))

    def forward(self, x: nn.tracing.Value) -> nn.tracing.Value:
        y = fastcnn.functional.relu(self.norm(self.conv(x)))
        return fastcnn.functional.concat([fastcnn.functional.conv2d(y, self.gain, groups=4), x]) * 0.5


def _layers() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2), nn.BatchNorm2d(4), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4, 3)
    )


NETWORKS: dict[str, Callable[[], nn.Module]] = {"layers": _layers, "recorded": Branches}


def _file_of(name: str) -> bytes:
    path = SCRATCH / name
    fastcnn.save(NETWORKS[name](), path, input_shape=(2, 7, 7), classes=["a", "b", "c"])
    return path.read_bytes()


def _description_of(name: str) -> bytes:
    content = _file_of(name)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return bytes(header["__metadata__"]["fastcnn"], "utf-8")


def _digit_image() -> bytes:
    from PIL import Image

    out = bytesio.BytesIO()
    Image.fromarray(data.digits(train=False).images[0, 0]).save(out, "PNG")
    return out.getvalue()


def _zip_of_images() -> bytes:
    out = bytesio.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        z.writestr("a/0.png", _digit_image())
        z.writestr("b/1.png", _digit_image())
    return out.getvalue()


def _idx() -> bytes:
    path = SCRATCH / "seed"
    data.write_idx(path, np.arange(12, dtype=np.int16).reshape(3, 4))
    return path.read_bytes()


def _written(content: bytes) -> Path:
    path = SCRATCH / "input"
    path.write_bytes(content)
    return path


def _run_architecture(text: bytes) -> None:
    from safetensors.numpy import save as encode

    for make in NETWORKS.values():
        state = make().state_dict()
        content = encode(state, {"fastcnn": text.decode("utf-8", "replace")})
        try:
            model = io.read(_written(content)).model
        except ValueError:
            continue
        for shape in ((1, 2, 7, 7), (2, 4)):
            try:
                if model.plan(shape).arena_bytes < MAX_ARENA:
                    model(np.ones(shape, np.float32))
            except ValueError:
                pass


def _read_zip(content: bytes) -> None:
    folder = data.image_folder(_written(content), size=(8, 8))
    folder.batch(np.arange(min(len(folder), 4)))


TARGETS: dict[str, tuple[Callable[[bytes], object], Callable[[], list[bytes]]]] = {
    "idx": (lambda b: data.read_idx(_written(b)), lambda: [_idx()]),
    "image": (
        lambda b: data.read_image(b, data.Preprocessing(glyph=0.7), (28, 28)),
        lambda: [_digit_image()],
    ),
    "zip": (_read_zip, lambda: [_zip_of_images()]),
    "model": (lambda b: io.read(_written(b)), lambda: [_file_of(n) for n in NETWORKS]),
    "architecture": (_run_architecture, lambda: [_description_of(n) for n in NETWORKS]),
}


VALUES = (
    None, True, 0, 1, -1, 2, 3, 255, 2**31, 2**40, 10**30, 0.5, float("nan"),
    "", "x", "relu", [], [1], [0, 1], {},
)  # fmt: skip


def _change_json(content: bytes, max_size: int, seed: int) -> bytes:
    """One place of a JSON text replaced by an odd value or by another part of it; broken texts byte by byte."""
    rng = random.Random(seed)
    try:
        root = json.loads(content)
    except (ValueError, RecursionError):
        return atheris.Mutate(content, max_size)
    places: list[tuple[Any, Any]] = []
    pending = [root]
    while pending:
        node = pending.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        places += [(node, key) for key in keys]
        pending += [node[key] for key in keys]
    if not places or rng.random() < 0.1:
        return atheris.Mutate(content, max_size)
    node, key = rng.choice(places)
    other, other_key = rng.choice(places)
    kind = rng.randrange(4)
    if kind == 0:
        del node[key]
    elif kind == 1:
        node[key] = json.loads(json.dumps(other[other_key]))
    elif kind == 2 and isinstance(node[key], int):
        node[key] += rng.choice((-1, 1, 2, 7))
    else:
        node[key] = rng.choice(VALUES)
    return json.dumps(root).encode()[:max_size]


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: {sys.argv[0]} {'|'.join(TARGETS)} [options of libFuzzer]")
    name = sys.argv.pop(1)
    target, seeds = TARGETS[name]
    corpus = SCRATCH / "corpus"
    corpus.mkdir()
    for i, seed in enumerate(seeds()):
        (corpus / str(i)).write_bytes(seed)
    assert models.available()  # everything lazy is imported before fuzzing starts

    def one(content: bytes) -> None:
        try:
            target(content)
        except (ValueError, OSError):
            pass

    by_tree = {"custom_mutator": _change_json} if name == "architecture" else {}
    atheris.Setup([*sys.argv, "-max_len=100000", str(corpus)], one, **by_tree)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
