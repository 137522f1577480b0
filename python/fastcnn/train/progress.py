"""What is seen of a training run while it goes on: a live line on a terminal, a line per epoch elsewhere."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import Any

from fastcnn._text import in_notebook
from fastcnn.train.history import EpochRecord

_REDRAW_SECONDS = 0.1
_KEPT_SECONDS = 10.0  # at most this often a finished epoch stays above the bar
_MARGIN = 5  # columns: a terminal that echoes ^C then does not wrap the line
_WIDEST_BAR, _NARROWEST_BAR = 24, 10


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


class ProgressLines(Progress):
    """A line for each epoch as soon as it ends, for logs, pipes and notebooks."""

    def __init__(self, last_epoch: int) -> None:
        self._last = last_epoch

    def epoch(self, record: EpochRecord) -> None:
        # A notebook colours what comes from stderr like an error.
        out = sys.stdout if in_notebook() else sys.stderr
        if out is not None:
            with contextlib.suppress(OSError, ValueError):  # whoever read went away: the training goes on
                print(epoch_line(record, self._last), file=out, flush=True)


def epoch_line(record: EpochRecord, last_epoch: int) -> str:
    """One epoch in one line of about 80 columns."""
    parts = [
        f"epoch {record.epoch}/{last_epoch}",
        f"loss {record.loss:.4f}",
        f"acc {_short(record.accuracy)}",
    ]
    if record.validation is not None:
        parts.append(f"val loss {record.validation.loss:.4f}  val acc {_short(record.validation.accuracy)}")
    return "  ".join([*parts, f"{_clock(record.seconds)} s", f"{record.images_per_second:,.0f} images/s"])


class ProgressBar(Progress):
    """A bar on stderr: epoch, part that is done, images per second, time left, loss, accuracy; as much as fits."""

    def __init__(self, epochs: int, images_per_epoch: int, first_epoch: int = 1, console: Any = None) -> None:
        from rich.console import Console
        from rich.live import Live

        self._total, self._last = epochs * images_per_epoch, first_epoch - 1 + epochs
        self._epoch, self._images, self._figures, self._held_out = first_epoch, 0, (0.0, 0.0), -1.0
        self._drawn = self._begun = self._kept = time.perf_counter()
        self._console = Console(stderr=True, force_jupyter=False) if console is None else console
        self._live = Live(
            self,
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),  # not into a file's place
        )

    def __enter__(self) -> ProgressBar:
        self._live.start(refresh=True)
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def step(self, epoch: int, images: int, loss: float, accuracy: float) -> None:
        self._epoch, self._images, self._figures = epoch, images, (loss, accuracy)
        now = time.perf_counter()
        if now - self._drawn >= _REDRAW_SECONDS:
            self._drawn = now
            self._live.refresh()

    def epoch(self, record: EpochRecord) -> None:
        if record.validation is not None:
            self._held_out = record.validation.accuracy
        now = time.perf_counter()
        if now - self._kept >= _KEPT_SECONDS:
            self._kept = now
            self._console.print(epoch_line(record, self._last), highlight=False)

    def __rich_console__(self, console: Any, options: Any) -> Any:
        from rich.progress_bar import ProgressBar as Bar
        from rich.table import Table

        before, after, bar = self.parts(options.max_width - _MARGIN)
        line = Table.grid(padding=(0, 1))
        line.add_row(before, Bar(max(self._total, 1), self._images, width=bar), after)
        yield line

    def parts(self, width: int) -> tuple[str, str, int]:
        """What stands before and after the bar, and the bar's columns: the richest line that fits."""
        spent = time.perf_counter() - self._begun
        rate = self._images / max(spent, 1e-9)
        left = _clock((self._total - self._images) / rate, minutes=True) if self._images else "-:--"
        loss, accuracy = self._figures
        before = f"epoch {self._epoch}/{self._last}"
        head = [f"{100 * self._images // max(self._total, 1):3d} %", left]
        speed, loss_text = f"{rate:,.0f} images/s", f"loss {loss:.4f}"
        short = [f"acc {_short(accuracy)}"]
        long = [f"accuracy {100 * accuracy:.2f} %"]
        if self._held_out >= 0:
            short.append(f"val {_short(self._held_out)}")
            long.append(f"held-out {100 * self._held_out:.2f} %")
        figures: tuple[list[str], ...] = (
            [speed, loss_text, *long], [speed, loss_text, *short], [speed, *short], short, []
        )  # fmt: skip
        for chosen in figures:
            after = "  ".join([*head, *(chosen if self._images else [])])
            bar = width - len(before) - len(after) - 2
            if bar >= _NARROWEST_BAR:
                break
        return before, after, max(1, min(_WIDEST_BAR, bar))


def _short(part: float) -> str:
    return f"{100 * part:.1f}"


def _clock(seconds: float, minutes: bool = False) -> str:
    """Seconds with their fractions below a minute (not with ``minutes``); 2:05 and 1:02:05 above."""
    if seconds < 60 and not minutes:
        return f"{seconds:.2f}"
    whole = round(seconds)
    clock = f"{whole // 60 % 60}:{whole % 60:02d}"
    return clock if whole < 3600 else f"{whole // 3600}:{clock:0>5}"


def make_progress(
    wanted: bool | str | None, epochs: int, images_per_epoch: int, first_epoch: int = 1
) -> Progress:
    """True: a bar where stderr is a terminal that can move its cursor, otherwise lines. "lines": always these.
    None: the same for people who watch, on a terminal or in a notebook, and nothing elsewhere.

    Parameters
    ----------
    first_epoch : int
        Its number, counting those of earlier calls.
    """
    if wanted is False:
        return Progress()
    notebook, terminal = in_notebook(), sys.stderr is not None and sys.stderr.isatty()
    if wanted is None and not notebook and not terminal:
        return Progress()
    live = terminal and not notebook and os.environ.get("TERM") not in ("dumb", "unknown")
    if live and wanted != "lines":
        return ProgressBar(epochs, images_per_epoch, first_epoch)
    return ProgressLines(first_epoch - 1 + epochs)
