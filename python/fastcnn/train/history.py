"""What happened in each epoch, as records and as a table."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from fastcnn._text import aligned, html_table, terminal_width

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

    def best(self) -> EpochRecord | None:
        """The epoch with the highest held-out accuracy (without held-out data: accuracy), the first of equals."""
        return max(self.epochs, key=_standing, default=None)

    def table(self, max_rows: int = 20, width: int | None = None) -> Table:
        """The epochs as a `rich` table; of more than `max_rows`, evenly spaced ones, the first, best and last.

        Parameters
        ----------
        width : int, optional
            Columns that it may take: headings are shorter where they must be, then the speed is left out.
        """
        from rich import box
        from rich.table import Table

        headings, *rows = self._cells(max_rows, width)
        table = Table(box=box.SIMPLE_HEAD)
        for heading in headings:
            table.add_column(heading, justify="right")
        for row in rows:
            table.add_row(*row)
        return table

    def _cells(self, max_rows: int = 20, width: int | None = None) -> list[list[str]]:
        """Headings, then the rows of `table`."""
        chosen = self._chosen(max_rows)
        columns: list[tuple[str, str, list[str]]] = [  # heading, the same in short, cells
            ("epoch", "epoch", [str(e.epoch) for e in chosen]),
            ("loss", "loss", [f"{e.loss:.4f}" for e in chosen]),
            ("accuracy", "acc", [_percent(e.accuracy) for e in chosen]),
        ]
        if any(e.validation is not None for e in self.epochs):
            held_out = [e.validation for e in chosen]
            losses = ["" if v is None else f"{v.loss:.4f}" for v in held_out]
            parts = ["" if v is None else _percent(v.accuracy) for v in held_out]
            columns += [("held-out loss", "val loss", losses), ("held-out accuracy", "val acc", parts)]
        speed = [
            ("seconds", "seconds", [f"{e.seconds:.2f}" for e in chosen]),
            ("images/s", "images/s", [f"{e.images_per_second:,.0f}" for e in chosen]),
        ]
        for short, shown in ((False, [*columns, *speed]), (True, [*columns, *speed]), (True, columns)):
            listed = [[brief if short else heading, *cells] for heading, brief, cells in shown]
            if width is None or sum(3 + max(map(len, column)) for column in listed) < width:
                break
        return [list(row) for row in zip(*listed, strict=True)]

    def _chosen(self, count: int) -> list[EpochRecord]:
        n, best = len(self.epochs), self.best()
        if n <= max(1, count):
            return self.epochs
        every = -(-n // max(1, count - 3))
        spaced = range(every - 1, n, every)
        return [e for i, e in enumerate(self.epochs) if i in (0, n - 1) or i in spaced or e is best]

    def _note(self) -> str:
        """In a few words: how far it came."""
        if not self.epochs:
            return "no epochs"
        last, best = self.epochs[-1], self.best()
        said = [
            f"{len(self)} epoch{'s' if len(self) > 1 else ''} in {self.seconds:.2f} s",
            f"loss {last.loss:.4f}",
        ]
        said.append(f"accuracy {_percent(last.accuracy)}")
        if last.validation is not None:
            said.append(f"held-out accuracy {_percent(last.validation.accuracy)}")
        if best is not None and _standing(best) > _standing(last):
            said.append(f"best {_percent(_standing(best))} in epoch {best.epoch}")
        return ", ".join([*said, *(["interrupted"] if self.interrupted else [])])

    def __repr__(self) -> str:
        return f"<History: {self._note()}>"

    def __str__(self) -> str:
        cells = self._cells(width=terminal_width())
        return "\n".join(aligned(cells, len(cells[0])))

    def _repr_html_(self) -> str:
        return html_table(self._cells(), self._note())


def _standing(e: EpochRecord) -> float:
    return e.accuracy if e.validation is None else e.validation.accuracy


def _percent(part: float) -> str:
    return f"{100 * part:.2f} %"
