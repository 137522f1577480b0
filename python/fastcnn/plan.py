"""Plans as people read them."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn._text import Shown, fitted, terminal_width
from fastcnn.functional._arguments import integer


class Plan:
    """What a network became for one input shape: steps, their implementations, layouts and buffers.

    Attributes
    ----------
    steps : list of dict
        layer, op, implementation, detail, layout, fused, output, launch, section, segment, flops, bytes, and
        predicted: the seconds that the choice of layouts counts with.
        Steps of the same launch run in one parallel region; a segment carries an image block through all of them.
    buffers : list of dict
        layer, shape, layout, place, bytes, offset, first, last: lifetimes are in launches (for buffers of a
        segment's threads: in steps of it).
    """

    def __init__(self, core: Any, trace: Any) -> None:
        self.core = core
        self._inputs = list(trace.input_list)
        self._held = list(trace.held.values())
        self._alive = trace.alive()  # caches know them by their ids

    @property
    def steps(self) -> list[dict[str, Any]]:
        return [{**step, "segment": bool(step["segment"])} for step in self.core.steps]

    @property
    def buffers(self) -> list[dict[str, Any]]:
        return self.core.buffers

    @property
    def arena_bytes(self) -> int:
        """Memory of all values and scratch; weights, gradients of parameters and inputs are not in it."""
        return self.core.arena_bytes

    def describe(self, width: int | None = None) -> Shown:
        """Steps, then buffers, then the sum of memory, as a table.

        Parameters
        ----------
        width : int, optional
            Columns that it may take; the least important ones are left out. Default: the terminal's; all where
            there is none.
        """
        width = terminal_width() if width is None else width
        lines = [
            self._counts(),
            *_step_table(self.steps, _PRICES, (("MFLOP", "price us"), ("price us",)), width),
        ]
        buffers = self.buffers
        shown = (_BUFFER, _BUFFER[:2] + _BUFFER[3:4] + _BUFFER[5:], _BUFFER[:2] + _BUFFER[5:])
        choices = []
        for columns in shown:
            rows = [[heading for heading, _ in columns]]
            rows += [[str(b[key]) for _, key in columns] for b in buffers]
            choices.append((rows, sum(columns.count(c) for c in _BUFFER[4:])))
        lines += ["", *fitted(choices, width)]
        lines += [
            f"memory: {self.arena_bytes / 1e6:.2f} MB, of it scratch {self.core.scratch_bytes / 1e6:.2f} MB",
            f"kept between runs: {self.core.persistent_bytes / 1e6:.2f} MB",
        ]
        return Shown("\n".join(lines))

    def _counts(self) -> str:
        steps = self.steps
        launches, threads = len({s["launch"] for s in steps}), self.core.threads
        return (
            f"plan: {len(steps)} steps in {launches} launches, {threads} thread{'s' if threads != 1 else ''}"
        )

    def profile(self, repeats: int = 10, *, by_time: bool = False, width: int | None = None) -> Profile:
        """Run on random inputs and measure each step; the medians of ``repeats`` runs.

        Parameters
        ----------
        by_time : bool
            The slowest step first, instead of the order of the run.
        width : int, optional
            Columns of the table, as in `describe`.

        What a plan writes besides its results (weights, momentum, running statistics) is put back afterwards, so not
        while another thread trains.
        """
        if integer("profile", "repeats", repeats) < 1:
            raise ValueError(f"profile: expected at least 1 repeat, got {repeats}")
        before = [(held, held.numpy().copy()) for held in self._held]
        try:
            seconds = self._measured(repeats)
        finally:
            for tensor, values in before:
                tensor.numpy()[...] = values
        return Profile(self.steps, seconds, by_time, width)

    def _measured(self, repeats: int) -> np.ndarray:
        rng = np.random.default_rng(0)
        inputs = {}
        for i, (name, shape, dtype, batched) in enumerate(self._inputs):
            random = batched and dtype == "float32"
            constant = np.full(shape, name == "divisor", dtype)
            inputs[i] = rng.standard_normal(shape).astype(dtype) if random else constant
        runs = []
        for _ in range(repeats + 1):
            times = np.zeros(len(self.steps))
            run = self.core.start()
            for section in range(self.core.sections):
                times += run.time(section, inputs)
            runs.append(times)
        return np.median(runs[1:], axis=0)

    def __str__(self) -> str:
        return self.describe()

    def __repr__(self) -> str:
        return f"<{self._counts()}, {self.arena_bytes / 1e6:.2f} MB; print() shows them>"

    def _repr_html_(self) -> str:
        return self.describe()._repr_html_()


class Profile(Shown):
    """The measured table as text, with the figures as attributes.

    Attributes
    ----------
    steps : list of dict
        As :attr:`Plan.steps`, plus seconds, share (of the sum), gflops (per second) and gbytes (per second).
    seconds : float
        Sum over the steps.
    """

    steps: list[dict[str, Any]]
    seconds: float

    def __new__(
        cls,
        steps: list[dict[str, Any]],
        seconds: np.ndarray,
        by_time: bool = False,
        width: int | None = None,
    ) -> Profile:
        total = float(seconds.sum())
        measured = []
        for step, t in zip(steps, seconds.tolist(), strict=True):
            rate = 1e-9 / t if t > 0 else 0.0
            figures = {"seconds": t, "share": t / total if total > 0 else 0.0}
            measured.append(
                {**step, **figures, "gflops": step["flops"] * rate, "gbytes": step["bytes"] * rate}
            )
        if by_time:
            measured.sort(key=lambda step: -step["seconds"])
        width = terminal_width() if width is None else width
        lines = _step_table(measured, _TIMES, (("us", "%", "GFLOP/s"), ("us", "%")), width)
        self = super().__new__(cls, "\n".join([*lines, f"total: {total * 1e3:.3f} ms"]))
        self.steps, self.seconds = measured, total
        return self


# By their headings: the key of a step, a factor, and how many decimals.
_Figures = dict[str, tuple[str, float, int]]
_PRICES: _Figures = {"MFLOP": ("flops", 1e-6, 2), "MB": ("bytes", 1e-6, 2), "price us": ("predicted", 1e6, 1)}
_TIMES: _Figures = {
    "us": ("seconds", 1e6, 1), "%": ("share", 100.0, 1), "GFLOP/s": ("gflops", 1.0, 1), "GB/s": ("gbytes", 1.0, 1)
}  # fmt: skip
_BUFFER = (
    ("buffer of", "layer"), ("shape", "shape"), ("layout", "layout"), ("place", "place"), ("offset", "offset"),
    ("bytes", "bytes"), ("from", "first"), ("to", "last"),
)  # fmt: skip


def _step_table(
    steps: list[dict[str, Any]], figures: _Figures, fewer: tuple[tuple[str, ...], ...], width: int | None
) -> list[str]:
    """As many columns as fit; ``fewer``: the figures that narrow tables keep."""
    cells: dict[str, list[str]] = {name: [] for name in ("launch", "how", "step")}
    for s in steps:
        cells["launch"].append(f"{s['launch']}{'*' if s['segment'] else ''}")
        cells["how"].append(s["implementation"] + (f" [{s['detail']}]" if s["detail"] else ""))
        cells["step"].append(f"{s['op']}+{s['fused']}" if s["fused"] else s["op"])
    for name in ("layer", "implementation", "fused", "layout", "output"):
        cells[name] = [s[name] for s in steps]
    for name, (key, factor, decimals) in figures.items():
        cells[name] = [f"{s[key] * factor:.{decimals}f}" for s in steps]
    choices = []
    for texts, numbers in (
        (("launch", "layer", "how", "fused", "layout", "output"), tuple(figures)),
        (("launch", "layer", "implementation", "fused", "layout", "output"), tuple(figures)),
        (("launch", "layer", "implementation", "fused", "output"), tuple(figures)),
        (("launch", "layer", "step", "output"), tuple(figures)),
        *((("launch", "layer", "step", "output"), kept) for kept in fewer),
        *((("launch", "layer", "step"), kept) for kept in fewer),
    ):
        names = [*texts, *numbers]
        headings = ["implementation" if name == "how" else name for name in names]
        rows = zip(*(cells[name] for name in names), strict=True)
        choices.append(([headings, *map(list, rows)], len(numbers)))
    return fitted(choices, width)
