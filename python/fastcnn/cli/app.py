"""The commands and their options. What they do stands in `commands`, imported when one runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", metavar="DIR", help="Where the files of mnist or fashion_mnist are, or will be put"
    ),
]
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
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Default: NET-DATA.safetensors")] = None,
) -> int:
    """Train a network, print a table of loss and accuracy, and write a model file.

    Settings that are not given are those of docs/accuracy.md for this network and data.
    """
    from fastcnn.cli import commands

    given = {
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "momentum": momentum,
        "weight_decay": weight_decay,
        "lr_decay": lr_decay,
        "shift": shift,
    }
    return commands.train(net, data, data_dir, given, seed, threads, out)


@app.command(epilog="Example: [bold]fastcnn evaluate lenet5-digits.safetensors digits[/bold]")
def evaluate(file: ModelFile, data: Data, data_dir: DataDir = None, threads: Threads = None) -> None:
    """Measure a trained network on the held-out images of a data set."""
    from fastcnn.cli import commands

    commands.evaluate(file, data, data_dir, threads)


@app.command(epilog="Example: [bold]fastcnn predict lenet5-digits.safetensors scan1.png scan2.jpg[/bold]")
def predict(
    file: ModelFile,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files (JPEG, PNG, ...)")],
    threads: Threads = None,
) -> int:
    """Say what is on each image: class, probability, and a bar per class."""
    from fastcnn.cli import commands

    return commands.predict(file, images, threads)


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
    from fastcnn.cli import commands

    commands.summary(net, input_shape)


@app.command()
def info() -> None:
    """Show version, compiler, instruction sets, threads and why that many."""
    from fastcnn.cli import commands

    commands.info()


@app.command(
    epilog="Examples: [bold]fastcnn bench ops --only resnet20[/bold]  |  "
    "[bold]fastcnn bench train --json train.json[/bold]"
)
def bench(
    what: Annotated[
        str,
        typer.Argument(metavar="ops|train|memory", help="Single ops, whole training steps, or their memory"),
    ],
    only: Annotated[str, typer.Option(metavar="TEXT", help="Cases whose name contains this")] = "",
    rounds: Annotated[int, typer.Option(min=1, help="How often the contenders alternate")] = 7,
    numpy: Annotated[bool, typer.Option("--numpy", help="Also time the NumPy reference (ops; slow)")] = False,
    threads: Threads = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the figures there")] = None,
) -> None:
    """Time fastcnn beside PyTorch and NumPy; results are checked first."""
    from fastcnn.cli import commands

    commands.bench(what, only, rounds, numpy, threads, json)
