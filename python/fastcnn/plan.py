"""Plans as people read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

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

    def describe(self) -> str:
        """Steps, then buffers, then the sum of memory, as a table."""
        steps = self.steps
        launches = len({s["launch"] for s in steps})
        lines = [f"plan: {len(steps)} steps in {launches} launches, {self.core.threads} threads"]
        figures = {"MFLOP": ("flops", 1e-6, 2), "MB": ("bytes", 1e-6, 2), "price us": ("predicted", 1e6, 1)}
        lines += _step_table(steps, figures)
        rows = [["buffer of", "shape", "layout", "place", "offset", "bytes", "from", "to"]]
        keys = ("layer", "shape", "layout", "place", "offset", "bytes", "first", "last")
        rows += [[str(b[k]) for k in keys] for b in self.buffers]
        lines += ["", *aligned(rows, right=4)]
        lines.append(
            f"memory: {self.arena_bytes / 1e6:.2f} MB, of it scratch {self.core.scratch_bytes / 1e6:.2f} MB; "
            f"kept between runs: {self.core.persistent_bytes / 1e6:.2f} MB"
        )
        return "\n".join(lines)

    def profile(self, repeats: int = 10) -> Profile:
        """Run on random inputs and measure each step; the medians of ``repeats`` runs.

        What a plan writes besides its results (weights, momentum, running statistics) is put back afterwards, so not
        while another thread trains.
        """
        if integer("profile", "repeats", repeats) < 1:
            raise ValueError(f"profile: expected at least 1 repeat, got {repeats}")
        before = [(held, held.numpy().copy()) for held in self._held]
        try:
            return self._profile(repeats)
        finally:
            for tensor, values in before:
                tensor.numpy()[...] = values

    def _profile(self, repeats: int) -> Profile:
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
        return Profile(self.steps, np.median(runs[1:], axis=0))

    def __str__(self) -> str:
        return self.describe()


class Profile(str):
    """The measured table as text, with the figures as attributes.

    Attributes
    ----------
    steps : list of dict
        As :attr:`Plan.steps`, plus seconds, gflops (per second) and gbytes (per second).
    seconds : float
        Sum over the steps.
    """

    steps: list[dict[str, Any]]
    seconds: float

    def __new__(cls, steps: list[dict[str, Any]], seconds: np.ndarray) -> Profile:
        measured = []
        for step, t in zip(steps, seconds.tolist(), strict=True):
            rate = 1e-9 / t if t > 0 else 0.0
            measured.append(
                {**step, "seconds": t, "gflops": step["flops"] * rate, "gbytes": step["bytes"] * rate}
            )
        figures = {"us": ("seconds", 1e6, 1), "GFLOP/s": ("gflops", 1.0, 1), "GB/s": ("gbytes", 1.0, 1)}
        total = float(seconds.sum())
        lines = [*_step_table(measured, figures), f"total: {total * 1e3:.3f} ms"]
        self = super().__new__(cls, "\n".join(lines))
        self.steps, self.seconds = measured, total
        return self


def _step_table(steps: list[dict[str, Any]], figures: dict[str, tuple[str, float, int]]) -> list[str]:
    """figures: by their heading, the key of a step, a factor, and how many decimals."""
    rows = [["launch", "layer", "implementation", "fused", "layout", "output", *figures]]
    for s in steps:
        launch = f"{s['launch']}{'*' if s['segment'] else ''}"
        name = s["implementation"] + (f" [{s['detail']}]" if s["detail"] else "")
        numbers = [f"{s[key] * factor:.{decimals}f}" for key, factor, decimals in figures.values()]
        rows.append([launch, s["layer"], name, s["fused"], s["layout"], s["output"], *numbers])
    return aligned(rows, right=len(figures))


def aligned(rows: Sequence[Sequence[str]], right: int) -> list[str]:
    """Columns padded to their widest cell; the last ``right`` columns are numbers."""
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    sides = ["<"] * (len(widths) - right) + [">"] * right
    line = "  ".join(f"{{:{side}{width}}}" for side, width in zip(sides, widths, strict=True))
    return [line.format(*r).rstrip() for r in rows]
