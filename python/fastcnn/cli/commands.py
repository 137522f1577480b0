"""What the commands do."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import re
from pathlib import Path
from typing import Any

import numpy as np

from fastcnn.cli import show

__all__ = ["bench", "evaluate", "info", "predict", "summary", "train"]

_INTERRUPTED = 130


def train(
    net: str,
    data: str,
    data_dir: Path | None,
    given: dict[str, Any],
    seed: int,
    threads: int | None,
    out: Path | None,
) -> int:
    """Train, print the table, write the file; 130 when Ctrl-C ended it early."""
    import fastcnn
    from fastcnn import models
    from fastcnn.data import sources
    from fastcnn.train import SCHEDULES, Trainer
    from fastcnn.train.recipes import recipe

    spec = models.spec(net)
    settings = dataclasses.replace(
        recipe(net, sources.label(data)), **{k: v for k, v in given.items() if v is not None}
    )
    if settings.lr_decay not in SCHEDULES:
        raise ValueError(f"--lr-decay must be one of {', '.join(SCHEDULES)}, got {settings.lr_decay!r}")
    out = Path(f"{net}-{sources.label(data)}.safetensors") if out is None else out
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise ValueError(f"--out {out}: expected a file's name in a folder that exists")
    _use_threads(threads)
    held_in, held_out = sources.open_parts(data, data_dir, spec.input_shape, settings.shift)
    fastcnn.manual_seed(seed)
    model = models.create(net, num_classes=len(held_in.classes), in_channels=held_in.input_shape[0])
    optimizer = fastcnn.optim.SGD(
        model.parameters(), lr=settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay
    )
    show.line(
        f"{net}, {model.parameter_count():,} parameters; {len(held_in):,} images to train on, "
        f"{len(held_out):,} held out; {fastcnn.get_num_threads()} threads"
    )
    trainer = Trainer(model, optimizer, fastcnn.nn.CrossEntropyLoss())
    history = trainer.fit(
        held_in,
        settings.epochs,
        settings.batch_size,
        held_out,
        seed=seed,
        schedule=SCHEDULES[settings.lr_decay],
    )
    show.table(history.table())
    fastcnn.save(
        model,
        out,
        input_shape=held_in.input_shape,
        classes=held_in.classes,
        preprocessing=held_in.preprocessing,
    )
    last = history[-1]
    if last.validation is not None:
        accuracy = 100 * last.validation.accuracy
        show.line(f"held-out accuracy {accuracy:.2f} % after {history.seconds:.2f} s of training")
    show.line(f"wrote {out} (weights {_digest(model.state_dict())})")
    if history.interrupted:
        show.line(f"interrupted in epoch {last.epoch}; the file holds the network as it was then")
    return _INTERRUPTED if history.interrupted else 0


def _digest(state: dict[str, np.ndarray]) -> str:
    """A short name for exactly these weights."""
    whole = hashlib.sha256()
    for name in sorted(state):
        whole.update(name.encode() + np.ascontiguousarray(state[name]).tobytes())
    return whole.hexdigest()[:16]


def _use_threads(threads: int | None) -> None:
    import fastcnn

    if threads is not None:
        fastcnn.set_num_threads(threads)


def evaluate(file: Path, data: str, data_dir: Path | None, threads: int | None) -> None:
    """Accuracy and loss on the held-out part, and the accuracy of each class."""
    from fastcnn import functional, io
    from fastcnn.data import batches, sources

    _use_threads(threads)
    saved = io.read(file)
    shape = _shape_of(saved, file)
    dataset = sources.open_held_out(data, data_dir, shape, saved.preprocessing, saved.classes)
    if dataset.input_shape != shape:
        raise ValueError(
            f"{data}: images are {_times(dataset.input_shape)}, the network reads {_times(shape)}"
        )
    right, count = np.zeros(len(dataset.classes), int), np.zeros(len(dataset.classes), int)
    loss = 0.0
    for x, y in batches(dataset, 256):
        proba = functional.softmax(saved.model(x))
        loss -= float(np.log(np.maximum(proba[np.arange(len(y)), y], 1e-30)).sum())
        np.add.at(count, y, 1)
        np.add.at(right, y, proba.argmax(axis=1) == y)
    show.table(show.per_class(dataset.classes, right, count))
    total = int(count.sum())
    show.line(
        f"accuracy {100 * right.sum() / total:.2f} % ({right.sum():,} of {total:,}), loss {loss / total:.4f}"
    )


def predict(file: Path, images: list[Path], threads: int | None) -> int:
    """Class, probability and bars of each image; 1 when an image could not be read."""
    from fastcnn import functional, io
    from fastcnn.cli import explained, fail
    from fastcnn.data import Preprocessing, read_image

    _use_threads(threads)
    saved = io.read(file)
    shape = _shape_of(saved, file)
    preprocessing = saved.preprocessing or Preprocessing(mode="L" if shape[0] == 1 else "RGB")
    status = 0
    for path in images:
        try:
            pixels = read_image(path, preprocessing, shape[1:])[None]
        except (ValueError, OSError) as e:
            status = fail(*explained(e))
            continue
        proba = functional.softmax(saved.model(preprocessing.apply(pixels)))[0]
        classes = saved.classes or tuple(map(str, range(len(proba))))
        show.prediction(str(path), classes, proba)
    return status


def _shape_of(saved: Any, file: Path) -> tuple[int, int, int]:
    if saved.input_shape is None:
        raise ValueError(
            f"{file}: does not say which input shape the network reads; save it with input_shape="
        )
    if len(saved.input_shape) != 3:
        raise ValueError(f"{file}: reads inputs of shape {_times(saved.input_shape)}, not images CxHxW")
    channels, height, width = saved.input_shape
    return channels, height, width


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def summary(net: str, input_shape: str | None) -> None:
    """The layers' table of a network or of a file."""
    from fastcnn import io, models

    if Path(net).is_file():
        saved = io.read(net)
        model, shape = saved.model, saved.input_shape
    else:
        model = models.create(net)
        shape = models.spec(net).input_shape
    if input_shape is not None:
        if not re.fullmatch(r"[1-9]\d{0,6}(x[1-9]\d{0,6}){2}", input_shape):
            raise ValueError(f"--input-shape must look like 3x32x32, got {input_shape!r}")
        channels, height, width = map(int, input_shape.split("x"))
        shape = (channels, height, width)
    if shape is None:
        raise ValueError(f"{net}: does not say which input shape it reads; give --input-shape CxHxW")
    show.line(str(model.summary(shape)))


def info() -> None:
    """What `fastcnn.info` knows, a line each."""
    import fastcnn

    show.pairs(fastcnn.info())


def bench(what: str, only: str, rounds: int, numpy: bool, threads: int | None, json: Path | None) -> None:
    """Run benchmarks (folder bench/ of the sources, installed as fastcnn.bench); the table grows as it is printed."""
    if what not in ("ops", "train", "memory"):
        raise ValueError(f"bench: expected ops, train or memory, got {what!r}")
    _use_threads(threads)
    module: Any = importlib.import_module(f"fastcnn.bench.{what}")
    if what == "ops":
        rows = module.run(rounds, only, numpy=numpy)
    else:
        cases = tuple(c for c in module.CASES if only in c[0])
        rows = module.run(cases) if what == "memory" else module.run(cases, rounds=rounds)
    if json is not None:
        importlib.import_module("fastcnn.bench.timing").write_json(str(json), what, rows)
