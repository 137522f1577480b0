"""Networks drawn at random from convolutions, norms, functions, sums, poolings, joins and cuts, against float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from tape import Tape, Var, check

COUNT = 40
KINDS = {
    "conv": 0.2, "depthwise": 0.05, "norm": 0.12, "fixed": 0.05, "function": 0.18, "concat": 0.16, "slice": 0.1,
    "add": 0.07, "pool": 0.05, "pad": 0.02,
}  # fmt: skip


class Drawn:
    """A network of `size` calls, the same for the same seed: build(tape) -> outputs, the last one differentiated."""

    def __init__(self, seed: int, size: int) -> None:
        self.seed, self.size = seed, size

    def __call__(self, tape: Tape) -> Sequence[Var]:
        self.rng, self.tape = np.random.default_rng([7, self.seed]), tape
        rng = self.rng
        n, image = int(rng.choice([1, 3, 17])), tuple(int(k) for k in rng.choice([1, 4, 5], 2))
        self.maps = [
            self.leaf(n, int(c), *image, batched=True) for c in rng.integers(1, 5, rng.integers(1, 3))
        ]
        for _ in range(self.size):
            self.maps.append(self.call(self.pick()))
        tail = [m for m in self.maps[-3:] if m.array.ndim == 4]
        last = tape.linear(*self.rows(tape.flatten(tape.concat(tail))))
        # Any other value may be an output, once or twice, and one may be a result as well as differentiated.
        others = [self.maps[i] for i in rng.integers(0, len(self.maps), rng.integers(0, 4))]
        return [*others, last] if rng.random() < 0.7 else [*others, last, self.maps[-1]]

    def leaf(self, *shape: int, scale: float = 1, batched: bool = False) -> Var:
        return self.tape.leaf((scale * self.rng.standard_normal(shape)).astype(np.float32), batched)

    def pick(self) -> Var:
        """A recent value more often than an old one."""
        back = min(int(self.rng.exponential(2.5)), len(self.maps) - 1)
        return self.maps[-1 - back]

    def rows(self, x: Var) -> tuple[Var, Var, Var]:
        return x, self.leaf(3, x.channels, scale=1 / np.sqrt(x.channels)), self.leaf(3)

    def call(self, x: Var) -> Var:
        t, rng = self.tape, self.rng
        kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
        c = x.channels
        if c > 24:
            kind = "slice"
        if kind == "conv":
            k, out = int(rng.choice([1, 3])), int(rng.choice([1, 2, 5, 8, 12, 17]))
            w = self.leaf(out, c, k, k, scale=1 / np.sqrt(c * k * k))
            return t.conv(x, w, self.leaf(out) if rng.random() < 0.5 else None, padding=[k // 2] * 4)
        if kind == "depthwise":
            return t.conv(x, self.leaf(c, 1, 3, 3, scale=1 / 3), None, padding=[1] * 4, groups=c)
        if kind == "norm" and x.array.shape[0] * x.array[0, 0].size > 1:
            return t.norm(x, self.leaf(c), self.leaf(c), 0.1)
        if kind == "fixed":
            var = t.leaf((0.5 + rng.random(c)).astype(np.float32))
            return t.norm_inference(x, self.leaf(c), var, self.leaf(c), self.leaf(c))
        if kind == "concat":
            return t.concat([x, *(self.pick() for _ in range(rng.integers(1, 4)))])
        if kind == "slice" and c > 1:
            begin = int(rng.integers(0, c - 1))
            return t.slice(x, begin, int(rng.integers(begin + 1, c + 1)))
        if kind == "add":
            same = [m for m in self.maps if m.array.shape == x.array.shape]
            return t.add(*(same[i] for i in rng.integers(0, len(same), rng.integers(2, 5))))
        if kind == "pool":
            window = {"kernel_size": [3, 3], "stride": [1, 1], "padding": [1] * 4}
            return t.max_pool(x, **window) if rng.random() < 0.4 else t.avg_pool(x, **window)
        if kind == "pad":
            return t.pad(x, int(rng.integers(0, 3)), int(rng.integers(0, 3)))
        return t.function(str(rng.choice(["relu", "tanh", "sigmoid", "leaky_relu", "offset", "silu"])), x)


def sound(seed: int, size: int) -> Drawn | None:
    """None where rounding would decide, or numbers grow too large to be compared."""
    drawn, tape = Drawn(seed, size), Tape()
    values = drawn(tape)
    biggest = max(float(abs(m.array).max(initial=0)) for m in [*drawn.maps, *values])
    return None if tape.fragile or biggest > 50 else drawn


@pytest.mark.parametrize("size", [6, 14, 30])
@pytest.mark.parametrize("part", range(4))
def test_drawn_networks_equal_the_reference(part: int, size: int) -> None:
    checked = 0
    for seed in range(1000 * part + 100 * size, 1000 * part + 100 * size + COUNT // 4 * 3):
        drawn = sound(seed, size)
        if drawn is None:
            continue
        checked += 1
        try:
            check(drawn, threads=(1, 3), error=1e-4, sections=bool(seed % 2))
        except Exception as error:
            raise AssertionError(f"network {seed} of {size} calls: {error}") from error
        if checked == COUNT // 4:
            return
    assert checked >= COUNT // 8, f"only {checked} of the networks can be compared"
