"""What happened in each epoch, as records and as a table."""

from __future__ import annotations

import dataclasses
import io
import math
from typing import TYPE_CHECKING, Any, NamedTuple, overload

if TYPE_CHECKING:
    from rich.table import Table


class Evaluation(NamedTuple):
    """Mean loss per image, and the part of the images (0 to 1) whose most probable class is right."""

    loss: float
    accuracy: float


@dataclasses.dataclass(frozen=True)
class EpochRecord:
    """One pass over the training data.

    Loss and accuracy are means over the epoch's images, measured during training, before each update.
    """

    epoch: int  # from 1
    loss: float
    accuracy: float
    images: int
    seconds: float  # of training alone
    lr: float  # at the epoch's end
    validation: Evaluation | None = None
    validation_seconds: float = 0.0

    @property
    def images_per_second(self) -> float:
        """Training throughput."""
        return self.images / self.seconds if self.seconds > 0 else 0.0


class History:
    """The epochs of one `Trainer.fit`, oldest first.

    Attributes
    ----------
    epochs : list of EpochRecord
    interrupted : bool
        Ctrl-C ended it early; the last record may be of part of an epoch.
    """

    def __init__(self) -> None:
        self.epochs: list[EpochRecord] = []
        self.interrupted = False

    def __len__(self) -> int:
        return len(self.epochs)

    @overload
    def __getitem__(self, i: int) -> EpochRecord: ...
    @overload
    def __getitem__(self, i: str) -> list[float]: ...
    def __getitem__(self, i: int | str) -> EpochRecord | list[float]:
        if not isinstance(i, str):
            return self.epochs[i]
        curves = self.history
        if i not in curves:
            raise KeyError(f"history: expected one of {', '.join(curves)}, got {i!r}")
        return curves[i]

    @property
    def history(self) -> dict[str, list[float]]:
        """By Keras' names, a number per epoch: loss, accuracy, val_loss, val_accuracy, lr.

        Those of the held-out data are there when any epoch has them, NaN where one has not (it was interrupted).
        """
        curves = {
            "loss": [e.loss for e in self.epochs],
            "accuracy": [e.accuracy for e in self.epochs],
        }
        held_out = [e.validation or Evaluation(math.nan, math.nan) for e in self.epochs]
        if any(e.validation is not None for e in self.epochs):
            curves["val_loss"] = [v.loss for v in held_out]
            curves["val_accuracy"] = [v.accuracy for v in held_out]
        return {**curves, "lr": [e.lr for e in self.epochs]}

    @property
    def seconds(self) -> float:
        """Time spent in training, without validation."""
        return sum(e.seconds for e in self.epochs)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        epochs = [
            {**dataclasses.asdict(e), "validation": e.validation and e.validation._asdict()}
            for e in self.epochs
        ]
        return {"interrupted": self.interrupted, "epochs": epochs}

    def table(self, max_rows: int = 20) -> Table:
        """The epochs as a `rich` table; of more than `max_rows`, evenly spaced ones and the last."""
        from rich import box
        from rich.table import Table

        validated = any(e.validation is not None for e in self.epochs)
        titles = ["epoch", "loss", "accuracy"]
        titles += ["held-out loss", "held-out accuracy"] if validated else []
        table = Table(box=box.SIMPLE_HEAD)
        for title in [*titles, "seconds", "images/s"]:
            table.add_column(title, justify="right")
        for e in _spaced(self.epochs, max_rows):
            cells = [str(e.epoch), f"{e.loss:.4f}", _percent(e.accuracy)]
            if e.validation is not None:
                cells += [f"{e.validation.loss:.4f}", _percent(e.validation.accuracy)]
            cells += [""] * (len(titles) - len(cells))
            table.add_row(*cells, f"{e.seconds:.2f}", f"{e.images_per_second:,.0f}")
        return table

    def __str__(self) -> str:
        from rich.console import Console

        out = io.StringIO()
        Console(file=out, width=120).print(self.table())
        return out.getvalue().rstrip()


def _percent(part: float) -> str:
    return f"{100 * part:.2f} %"


def _spaced(epochs: list[EpochRecord], count: int) -> list[EpochRecord]:
    every = -(-len(epochs) // max(1, count))
    return [e for i, e in enumerate(epochs, 1) if i % every == 0 or i == len(epochs)]
