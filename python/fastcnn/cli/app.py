"""The commands: their options and what they do. What a command needs of the library is imported when it runs."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import itertools
import re
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

import fastcnn
from fastcnn._files import check_place, keeps_its_content
from fastcnn.cli import explained, fail, show
from fastcnn.functional._arguments import shape_text

_INTERRUPTED = 130

app = typer.Typer(
    name="fastcnn",
    help="Train convolutional networks on the CPU, and use them.",
    epilog="Example: [bold]fastcnn train lenet5 digits[/bold]  |  FASTCNN_DEBUG=1 shows tracebacks of errors",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
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
_THREADS = "Default: the CPUs this process may use; 1 is best beside other work"
Threads = Annotated[int | None, typer.Option(min=1, help=_THREADS)]
_JSON = "Write the results there; - prints them instead of the text"
Json = Annotated[str | None, typer.Option("--json", metavar="FILE", help=_JSON)]


def _version(wanted: bool) -> None:
    if wanted:
        show.line(f"fastcnn {fastcnn.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


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
    json: Json = None,
) -> int:
    """Train a network, write a model file, and print a table of loss and accuracy.

    Settings that are not given are those that were chosen for this network and data; they are printed first.
    Ctrl-C ends the training after the current step; a file that is there already is then left as it is.
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
    check_place(out)
    figures, report = show.Figures(json), show.Report(json != "-")
    if json is not None and Path(json).absolute() == out.absolute():
        raise ValueError(f"--out and --json: expected two files, got {out} for both")
    _check_data_dir(data, data_dir)
    _use_threads(threads)
    on_error = "skip" if skip_unreadable else "raise"
    held_in, held_out = sources.open_parts(data, data_dir, spec.input_shape, settings.shift, on_error)
    fastcnn.manual_seed(seed)
    shape, classes = held_in.input_shape, held_in.classes
    model = models.create(net, num_classes=len(classes), in_channels=shape[0])
    optimizer = fastcnn.optim.SGD(
        model.parameters(), lr=settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay
    )
    report.prose(
        f"{net}, {model.parameter_count():,} parameters; {len(held_in):,} images to train on, "
        f"{len(held_out):,} held out; {show.count(fastcnn.get_num_threads(), 'thread')}"
    )
    report.prose(f"{data}: {held_in.describe()}")
    report.prose(
        f"{show.count(settings.epochs, 'epoch')}, batches of {settings.batch_size}, lr {settings.lr:g} "
        f"(decay: {settings.lr_decay}), momentum {settings.momentum:g}, weight decay {settings.weight_decay:g}, "
        f"shift {settings.shift}, seed {seed}"
    )
    trainer = Trainer(model, optimizer, fastcnn.nn.CrossEntropyLoss())
    history = trainer.fit(
        held_in, settings.epochs, settings.batch_size, held_out, seed=seed, schedule=schedule,
        progress=True, on_interrupt="return",
    )  # fmt: skip
    if history.interrupted and keeps_its_content(out):
        out = _free_name(out)
    replaced = "replaced" if keeps_its_content(out) else "wrote"
    try:
        model.save(out)
    except OSError as e:  # the disk filled up, the folder went away
        rescued = Path(tempfile.mkdtemp(prefix="fastcnn-"), out.name)
        model.save(rescued)
        return fail(f"{explained(e)[0]}; the network is in {rescued}", 1)
    weights = _digest(model.state_dict())
    report.table(history.table(width=show.width()))
    last, best = history[-1], history.best()
    if last.validation is not None:
        said = f"held-out accuracy {100 * last.validation.accuracy:.2f} % after {history.seconds:.2f} s of training"
        if best is not None and best.validation and best.validation.accuracy > last.validation.accuracy:
            said += f" (best: {100 * best.validation.accuracy:.2f} % in epoch {best.epoch})"
        report.prose(said)
    report.prose(f"{replaced} {out} (weights {weights})")
    if history.interrupted:
        report.prose(f"interrupted in epoch {last.epoch}; the file holds the network as it was then")
    facts = {"network": net, "data": data, "settings": {**dataclasses.asdict(settings), "seed": seed}}
    figures.write({**facts, "model": str(out), "weights": weights, **history.to_dict()})
    if report.lost is not None:
        return fail(f"{replaced} {out} (weights {weights}); the report is lost: {report.lost.strerror}", 1)
    return _INTERRUPTED if history.interrupted else 0


def _free_name(out: Path) -> Path:
    """NAME.interrupted.ENDING: no file that is there is lost to a run that did not finish."""
    for number in itertools.count(1):
        path = out.with_name(f"{out.stem}.interrupted{'' if number == 1 else number}{out.suffix}")
        if not path.exists():
            break
    return path


def _check_data_dir(data: str, data_dir: Path | None) -> None:
    from fastcnn.data import sources

    if data_dir is not None and sources.label(data).replace("-", "_").lower() not in (
        "mnist",
        "fashion_mnist",
    ):
        raise ValueError(f"--data-dir is where the files of mnist or fashion_mnist are; {data} needs none")


@app.command(epilog="Example: [bold]fastcnn evaluate lenet5-digits.safetensors digits[/bold]")
def evaluate(
    file: ModelFile,
    data: Data,
    data_dir: DataDir = None,
    threads: Threads = None,
    skip_unreadable: Skip = False,
    json: Json = None,
) -> None:
    """Measure a trained network on the held-out images of a data set.

    Of a folder that is its test (or val) part; without parts it is measured on all images.
    """
    from fastcnn import functional
    from fastcnn.data import batches, sources

    figures = show.Figures(json)
    _check_data_dir(data, data_dir)
    _use_threads(threads)
    saved, shape = _opened(file)
    on_error = "skip" if skip_unreadable else "raise"
    dataset = sources.open_held_out(data, data_dir, shape, saved.preprocessing, saved.classes, on_error)
    if not figures.replace_text:
        show.line(f"{data}: {dataset.describe()}")
    if dataset.input_shape != shape:
        raise ValueError(
            f"{data}: images are {shape_text(dataset.input_shape)}, the network reads {shape_text(shape)}"
        )
    right, count = np.zeros(len(dataset.classes), int), np.zeros(len(dataset.classes), int)
    loss = 0.0
    for x, y in batches(dataset, 256):
        scores = saved.model(x)
        loss += float(functional.cross_entropy(scores, y, "sum"))
        np.add.at(count, y, 1)
        np.add.at(right, y, scores.argmax(axis=1) == y)
    total, hits = int(count.sum()), int(right.sum())
    if not figures.replace_text:
        show.table(show.per_class(dataset.classes, right, count))
        show.line(f"accuracy {100 * hits / total:.2f} % ({hits:,} of {total:,}), loss {loss / total:.4f}")
    each = zip(dataset.classes, count.tolist(), right.tolist(), strict=True)
    figures.write(
        {"model": str(file), "data": data, "images": total, "right": hits, "accuracy": hits / total}
        | {"loss": loss / total, "classes": [{"class": c, "images": n, "right": r} for c, n, r in each]}
    )


@app.command(epilog="Example: [bold]fastcnn predict lenet5-digits.safetensors scan1.png scan2.jpg[/bold]")
def predict(
    file: ModelFile,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files (JPEG, PNG, ...)")],
    top: Annotated[int | None, typer.Option(min=1, metavar="K", help="The K most probable classes")] = None,
    brief: Annotated[bool, typer.Option("--brief", help="One line for each image")] = False,
    threads: Threads = None,
    json: Json = None,
) -> int:
    """Say what is on each image: class, probability, and a bar per class."""
    figures = show.Figures(json)
    _use_threads(threads)
    saved, _ = _opened(file)
    status, found = 0, list[dict[str, Any]]()
    for path in images:
        try:
            proba = saved.predict_proba(path)[0]
        except (ValueError, OSError) as e:
            status = fail(*explained(e))
            found.append({"file": str(path), "error": explained(e)[0]})
            continue
        classes = saved.classes or tuple(map(str, range(len(proba))))
        if not figures.replace_text:
            show.prediction(str(path), classes, proba, top, brief)
        found.append({"file": str(path), "classes": show.ranking(classes, proba, top)})
    figures.write({"model": str(file), "images": found})
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
    only: Annotated[str, typer.Option(metavar="TEXT", help="Cases with this in their name")] = "",
    rounds: Annotated[
        int | None, typer.Option(min=1, help="How often the contenders alternate; default: 7")
    ] = None,
    numpy: Annotated[bool, typer.Option("--numpy", help="Also time the NumPy reference (ops; slow)")] = False,
    threads: Threads = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the figures there")] = None,
) -> None:
    """Time fastcnn beside PyTorch and NumPy; results are checked first."""
    if what not in ("ops", "train", "networks", "memory", "prices"):
        raise ValueError(f"bench: expected ops, train, networks, memory or prices, got {what!r}")
    if rounds is not None and what == "memory":
        raise ValueError("bench memory: is measured once, --rounds is for the others")
    if numpy and what != "ops":
        raise ValueError(f"bench {what}: has no NumPy reference, --numpy is for ops")
    if json is not None:
        check_place(json)
    _use_threads(threads)
    module, timing = (importlib.import_module(f"fastcnn.bench.{name}") for name in (what, "timing"))
    options: dict[str, Any] = {} if rounds is None else {"rounds": rounds}
    if numpy:
        options["numpy"] = True
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
