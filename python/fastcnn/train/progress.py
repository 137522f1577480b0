"""The live line of a training run; nothing when nobody watches."""

from __future__ import annotations

import sys
import time
from typing import Any

from fastcnn.train.history import EpochRecord

_REDRAW_SECONDS = 0.1


class Progress:
    """Shows nothing. The base of what shows something."""

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def step(self, epoch: int, images: int, loss: float, accuracy: float) -> None:
        """After each batch: images seen since the start; the epoch's mean loss and accuracy so far."""

    def epoch(self, record: EpochRecord) -> None:
        """After each epoch."""


class ProgressBar(Progress):
    """A bar on stderr: epoch, images per second, time left, loss, accuracy."""

    def __init__(
        self, epochs: int, images_per_epoch: int, terminal: bool | None = None, first_epoch: int = 1
    ) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._epochs, self._held_out, self._drawn = first_epoch - 1 + epochs, "", 0.0
        self._begun = time.perf_counter()
        self._bar = Bar(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[rate]:>9,.0f} images/s"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[figures]}"),
            console=Console(stderr=True, force_terminal=terminal),
            auto_refresh=False,
            transient=True,
        )
        total = epochs * images_per_epoch
        self._task = self._bar.add_task(
            "", total=total, epoch=f"{first_epoch}/{self._epochs}", rate=0.0, figures=""
        )

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.refresh()
        self._bar.stop()

    def step(self, epoch: int, images: int, loss: float, accuracy: float) -> None:
        now = time.perf_counter()
        if now - self._drawn < _REDRAW_SECONDS:
            return
        self._drawn = now
        fields: dict[str, Any] = {
            "epoch": f"{epoch}/{self._epochs}",
            "rate": images / max(now - self._begun, 1e-9),
            "figures": f"loss {loss:.4f}  accuracy {100 * accuracy:.2f} %{self._held_out}",
        }
        self._bar.update(self._task, completed=images, refresh=True, **fields)

    def epoch(self, record: EpochRecord) -> None:
        if record.validation is not None:
            self._held_out = f"  held-out {100 * record.validation.accuracy:.2f} %"


class ProgressLines(Progress):
    """A line on stderr after each epoch."""

    def __init__(self, last_epoch: int) -> None:
        self._last = last_epoch

    def epoch(self, record: EpochRecord) -> None:
        held_out = record.validation
        figures = f"loss {record.loss:.4f}  accuracy {100 * record.accuracy:.2f} %"
        figures += "" if held_out is None else f"  held-out {100 * held_out.accuracy:.2f} %"
        print(
            f"epoch {record.epoch}/{self._last}  {record.seconds:.2f} s  {figures}",
            file=sys.stderr,
            flush=True,
        )


def make_progress(
    wanted: bool | str | None, epochs: int, images_per_epoch: int, first_epoch: int = 1
) -> Progress:
    """A bar when wanted, by default when stderr is a terminal; a line per epoch for "lines"."""
    if wanted == "lines":
        return ProgressLines(first_epoch - 1 + epochs)
    if sys.stderr.isatty() if wanted is None else wanted:
        return ProgressBar(epochs, images_per_epoch, None if wanted is None else True, first_epoch)
    return Progress()
