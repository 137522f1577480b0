"""The commands: their options and what they do. What a command needs of the library is imported when it runs."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import re
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

import fastcnn
from fastcnn.cli import explained, fail, show
from fastcnn.functional._arguments import shape_text

_INTERRUPTED = 130

app = typer.Typer(
    name="fastcnn",
    help="Train convolutional networks on the CPU, and use them.",
    epilog="Example: [bold]fastcnn train lenet5 digits[/bold]",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

_DATA = "digits, mnist, fashion_mnist, or a folder or zip file of images CLASS/NAME.jpg"

Net = Annotated[str, typer.Argument(metavar="NET", help="lenet5 or resnet20_cifar")]
Data = Annotated[str, typer.Argument(metavar="DATA", help=_DATA)]
ModelFile = Annotated[Path, typer.Argument(metavar="FILE", help="A model file that train wrote")]
_DATA_DIR = "Where the files of mnist or fashion_mnist are, or will be put"
DataDir = Annotated[Path | None, typer.Option("--data-dir", metavar="DIR", help=_DATA_DIR)]
_SKIP = "Leave out files that are no readable images, instead of stopping"
Skip = Annotated[bool, typer.Option("--skip-unreadable", help=_SKIP)]
Threads = Annotated[int | None, typer.Option(min=1, help="Default: the CPUs this process may use")]


@app.command(
    epilog="Examples: [bold]fastcnn train lenet5 digits[/bold]  |  "
    "[bold]fastcnn train lenet5 mnist --data-dir data/mnist --epochs 12[/bold]  |  "
    "[bold]fastcnn train resnet20_cifar photos.zip --out photos.safetensors[/bold]"
)
def train(
    net: Net,
    data: Data,
    data_dir: DataDir = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training images")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images per update")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate")] = None,
    momentum: Annotated[float | None, typer.Option(help="Momentum of SGD")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Weight decay (coupled, as in SGD)")] = None,
    lr_decay: Annotated[str | None, typer.Option(help="none, cosine or steps")] = None,
    shift: Annotated[int | None, typer.Option(min=0, help="Move images at random by so many pixels")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides initial weights, order and shifts")] = 0,
    threads: Threads = None,
    skip_unreadable: Skip = False,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Default: NET-DATA.safetensors")] = None,
) -> int:
    """Train a network, print a table of loss and accuracy, and write a model file.

    Settings that are not given are those of docs/accuracy.md for this network and data.
    """
    from fastcnn import models
    from fastcnn.data import sources
    from fastcnn.train import SCHEDULES, Trainer
    from fastcnn.train.recipes import recipe

    given: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "momentum": momentum}
    given |= {"weight_decay": weight_decay, "lr_decay": lr_decay, "shift": shift}
    given = {name: value for name, value in given.items() if value is not None}
    spec = models.spec(net)
    settings = dataclasses.replace(recipe(net, sources.label(data)), **given)
    schedule = SCHEDULES.get(settings.lr_decay)
    if schedule is None:
        raise ValueError(f"--lr-decay must be one of {', '.join(SCHEDULES)}, got {settings.lr_decay!r}")
    out = Path(f"{net}-{sources.label(data)}.safetensors") if out is None else out
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise ValueError(f"--out {out}: expected a file's name in a folder that exists")
    _use_threads(threads)
    on_error = "skip" if skip_unreadable else "raise"
    held_in, held_out = sources.open_parts(data, data_dir, spec.input_shape, settings.shift, on_error)
    fastcnn.manual_seed(seed)
    shape, classes = held_in.input_shape, held_in.classes
    model = models.create(net, num_classes=len(classes), in_channels=shape[0])
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
        schedule=schedule,
        on_interrupt="return",
    )
    show.table(history.table())
    fastcnn.save(model, out, input_shape=shape, classes=classes, preprocessing=held_in.preprocessing)
    last = history[-1]
    if last.validation is not None:
        accuracy = 100 * last.validation.accuracy
        show.line(f"held-out accuracy {accuracy:.2f} % after {history.seconds:.2f} s of training")
    show.line(f"wrote {out} (weights {_digest(model.state_dict())})")
    if history.interrupted:
        show.line(f"interrupted in epoch {last.epoch}; the file holds the network as it was then")
    return _INTERRUPTED if history.interrupted else 0


@app.command(epilog="Example: [bold]fastcnn evaluate lenet5-digits.safetensors digits[/bold]")
def evaluate(
    file: ModelFile,
    data: Data,
    data_dir: DataDir = None,
    threads: Threads = None,
    skip_unreadable: Skip = False,
) -> None:
    """Measure a trained network on the held-out images of a data set.

    Of a folder that is its test (or val) part; without parts it is measured on all images.
    """
    from fastcnn import functional
    from fastcnn.data import batches, sources

    _use_threads(threads)
    saved, shape = _opened(file)
    on_error = "skip" if skip_unreadable else "raise"
    dataset = sources.open_held_out(data, data_dir, shape, saved.preprocessing, saved.classes, on_error)
    show.line(f"{data}: {dataset.describe()}")
    if dataset.input_shape != shape:
        raise ValueError(
            f"{data}: images are {shape_text(dataset.input_shape)}, the network reads {shape_text(shape)}"
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


@app.command(epilog="Example: [bold]fastcnn predict lenet5-digits.safetensors scan1.png scan2.jpg[/bold]")
def predict(
    file: ModelFile,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files (JPEG, PNG, ...)")],
    threads: Threads = None,
) -> int:
    """Say what is on each image: class, probability, and a bar per class."""
    _use_threads(threads)
    saved, _ = _opened(file)
    status = 0
    for path in images:
        try:
            proba = saved.predict_proba(path)[0]
        except (ValueError, OSError) as e:
            status = fail(*explained(e))
            continue
        classes = saved.classes or tuple(map(str, range(len(proba))))
        show.prediction(str(path), classes, proba)
    return status


@app.command(
    epilog="Examples: [bold]fastcnn summary lenet5[/bold]  |  [bold]fastcnn summary model.safetensors[/bold]"
)
def summary(
    net: Annotated[str, typer.Argument(metavar="NET", help="A network's name or a model file")],
    input_shape: Annotated[
        str | None, typer.Option(metavar="CxHxW", help="Default: what the network was made for")
    ] = None,
) -> None:
    """Show a network's layers, output shapes, parameters and multiply-adds."""
    from fastcnn import io, models

    if Path(net).is_file():
        saved = io.read(net)
        model, shape = saved.model, saved.input_shape
    else:
        model, shape = models.create(net), models.spec(net).input_shape
    if input_shape is not None:
        if not re.fullmatch(r"[1-9]\d{0,6}(x[1-9]\d{0,6}){2}", input_shape):
            raise ValueError(f"--input-shape must look like 3x32x32, got {input_shape!r}")
        channels, height, width = map(int, input_shape.split("x"))
        shape = (channels, height, width)
    if shape is None:
        raise ValueError(f"{net}: does not say which input shape it reads; give --input-shape CxHxW")
    show.line(str(model.summary(shape)))


@app.command()
def info() -> None:
    """Show version, compiler, instruction sets, threads and why that many."""
    show.pairs(fastcnn.info())


@app.command(
    epilog="Examples: [bold]fastcnn bench ops --only resnet20[/bold]  |  "
    "[bold]fastcnn bench train --json train.json[/bold]"
)
def bench(
    what: Annotated[
        str,
        typer.Argument(
            metavar="ops|train|networks|memory|prices",
            help="Single ops, whole training steps, larger networks, their memory, or predicted beside measured times",
        ),
    ],
    only: Annotated[str, typer.Option(metavar="TEXT", help="Cases whose name contains this")] = "",
    rounds: Annotated[int, typer.Option(min=1, help="How often the contenders alternate")] = 7,
    numpy: Annotated[bool, typer.Option("--numpy", help="Also time the NumPy reference (ops; slow)")] = False,
    threads: Threads = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the figures there")] = None,
) -> None:
    """Time fastcnn beside PyTorch and NumPy; results are checked first."""
    if what not in ("ops", "train", "networks", "memory", "prices"):
        raise ValueError(f"bench: expected ops, train, networks, memory or prices, got {what!r}")
    _use_threads(threads)
    module, timing = (importlib.import_module(f"fastcnn.bench.{name}") for name in (what, "timing"))
    options: dict[str, Any] = {} if what == "memory" else {"rounds": rounds}
    if what == "ops":
        options["numpy"] = numpy
    rows = module.run(timing.chosen(module.CASES, [only]), **options)
    if json is not None:
        timing.write_json(str(json), what, rows)


def _digest(state: dict[str, np.ndarray]) -> str:
    """A short name for exactly these weights."""
    whole = hashlib.sha256()
    for name in sorted(state):
        whole.update(name.encode() + np.ascontiguousarray(state[name]).tobytes())
    return whole.hexdigest()[:16]


def _use_threads(threads: int | None) -> None:
    if threads is not None:
        fastcnn.set_num_threads(threads)


def _opened(file: Path) -> tuple[Any, tuple[int, int, int]]:
    """What a model file holds, and the images (C, H, W) that its network reads."""
    saved = fastcnn.io.read(file)
    if saved.input_shape is None:
        raise ValueError(
            f"{file}: does not say which input shape the network reads; save it with input_shape="
        )
    if len(saved.input_shape) != 3:
        raise ValueError(f"{file}: reads inputs of shape {shape_text(saved.input_shape)}, not images CxHxW")
    channels, height, width = saved.input_shape
    return saved, (channels, height, width)
