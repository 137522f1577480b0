"""Plans as people read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


class Plan:
    """What a network became for one input shape: steps, their implementations, layouts and buffers.

    Attributes
    ----------
    steps : list of dict
        layer, op, implementation, detail, layout, fused, output, launch, section, segment, flops, bytes.
        Steps of the same launch run in one parallel region; a segment carries an image block through all of them.
    buffers : list of dict
        layer, shape, layout, place, bytes, offset, first, last: lifetimes are in launches (for buffers of a
        segment's threads: in steps of it).
    """

    def __init__(self, core: Any, trace: Any) -> None:
        self.core = core
        self._inputs = [(n, s, d) for n, s, d in trace.input_list]

    @property
    def steps(self) -> list[dict[str, Any]]:
        return self.core.steps

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
        lines = [
            f"plan: {len(steps)} steps in {len({s['launch'] for s in steps})} launches, {self.core.threads} threads"
        ]
        rows: list[tuple[str, ...]] = [
            ("launch", "layer", "implementation", "fused", "layout", "output", "MFLOP", "MB")
        ]
        rows += [(*_step_cells(s), f"{s['flops'] / 1e6:.2f}", f"{s['bytes'] / 1e6:.2f}") for s in steps]
        lines += _table(rows, right=2)
        rows = [("buffer of", "shape", "layout", "place", "offset", "bytes", "from", "to")]
        rows += [
            (
                b["layer"],
                b["shape"],
                b["layout"],
                b["place"],
                *(str(b[k]) for k in ("offset", "bytes", "first", "last")),
            )
            for b in self.buffers
        ]
        lines += ["", *_table(rows, right=4)]
        lines.append(
            f"memory: {self.arena_bytes / 1e6:.2f} MB, of it scratch {self.core.scratch_bytes / 1e6:.2f} MB; "
            f"kept between runs: {self.core.persistent_bytes / 1e6:.2f} MB"
        )
        return "\n".join(lines)

    def profile(self, repeats: int = 10) -> Profile:
        """Run on random inputs and measure each step; the medians of ``repeats`` runs.

        A training plan updates the model while it is profiled: profile a copy, or before training.
        """
        rng = np.random.default_rng(0)
        inputs = {
            i: rng.standard_normal(shape).astype(np.float32) if dtype == "float32" else np.zeros(shape, dtype)
            for i, (_, shape, dtype) in enumerate(self._inputs)
        }
        runs = []
        for _ in range(repeats + 1):
            times = np.zeros(len(self.steps))
            for section in range(self.core.sections):
                times += self.core.time(section, inputs)
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
        rows: list[tuple[str, ...]] = [
            ("launch", "layer", "implementation", "fused", "layout", "output", "us", "GFLOP/s", "GB/s")
        ]
        for s in measured:
            rows.append(
                (*_step_cells(s), f"{s['seconds'] * 1e6:.1f}", f"{s['gflops']:.1f}", f"{s['gbytes']:.1f}")
            )
        total = float(seconds.sum())
        self = super().__new__(cls, "\n".join([*_table(rows, right=3), f"total: {total * 1e3:.3f} ms"]))
        self.steps, self.seconds = measured, total
        return self


def _step_cells(s: dict[str, Any]) -> tuple[str, ...]:
    launch = f"{s['launch']}{'*' if s['segment'] else ''}"
    name = s["implementation"] + (f" [{s['detail']}]" if s["detail"] else "")
    return launch, s["layer"], name, s["fused"], s["layout"], s["output"]


def _table(rows: Sequence[tuple[str, ...]], right: int) -> list[str]:
    """Columns padded to their widest cell; the last ``right`` columns are numbers."""
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    left = len(widths) - right
    return [
        "  ".join(
            c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths, strict=True))
        ).rstrip()
        for r in rows
    ]
