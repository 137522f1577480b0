"""Training steps of whole networks: forward, cross-entropy, backward, SGD with momentum.

fastcnn runs one plan per step. PyTorch runs in each of its modes; the best one counts. Both start from the same
weights, and their first losses must agree before anything is timed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import fastcnn
from fastcnn.nn.engine import TrainingStep

from .peers import MODES, NETS, TorchTraining, torch_here
from .timing import alternate, case_name, executed, fma_peak, show

CASES = (("lenet5", 64), ("lenet5", 1024), ("resnet20_cifar", 128))
COLUMNS = [
    ("name", "training step", "20s"),
    ("fastcnn_ms", "fastcnn ms", ".3f"),
    ("images_per_second", "images/s", ",.0f"),
    ("peak_share", "of FMA peak", ".0%"),
    ("torch_ms", "PyTorch ms", ".3f"),
    ("torch_mode", "its best mode", "21s"),
    ("ratio", "ratio", ".2f"),
]


def ours(name: str, batch: int, layout: str = "auto") -> tuple[fastcnn.nn.Module, Any, Any, TrainingStep]:
    """Model, images, labels, and fastcnn's training step on them."""
    fastcnn.manual_seed(0)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, *NETS[name][1])).astype(np.float32)
    y = rng.integers(0, 10, batch)
    model = fastcnn.models.create(name)
    optimizer = fastcnn.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    return model, x, y, TrainingStep(model, optimizer, fastcnn.nn.CrossEntropyLoss(), layout)


def run_case(name: str, batch: int, modes: tuple[str, ...], rounds: int) -> dict[str, Any]:
    model, x, y, step = ours(name, batch)
    state = model.state_dict()
    steps = step.training_plan(x.shape).steps
    flops = sum(s["flops"] for s in steps)
    multiplied = sum(executed(s["flops"], s["implementation"]) for s in steps)
    losses = [step.step(x, y)[0] for _ in range(3)]

    contenders: dict[str, Any] = {"fastcnn": lambda: step.step(x, y) and None}
    for mode in modes if torch_here() else ():
        peer = TorchTraining(name, mode, state, x, y, 1e-3)
        got = [peer.step() for _ in range(3)]
        if not np.allclose(got, losses, rtol=0, atol=1e-4):
            raise RuntimeError(f"{name} batch {batch}: losses differ: fastcnn {losses}, PyTorch {mode} {got}")
        contenders[mode] = lambda peer=peer: peer.step() and None
    seconds = alternate(contenders, rounds)
    mine = seconds.pop("fastcnn")
    row: dict[str, Any] = {
        "name": case_name((name, batch)),
        "fastcnn_ms": mine * 1e3,
        "images_per_second": batch / mine,
        "gflops": flops / mine / 1e9,
        "peak_share": multiplied / mine / fma_peak(),
        "all_torch_ms": {k: v * 1e3 for k, v in seconds.items()},
    }
    if seconds:
        best = min(seconds, key=lambda k: seconds[k])
        row |= {"torch_ms": seconds[best] * 1e3, "torch_mode": best, "ratio": seconds[best] / mine}
    return row


def run(
    cases: tuple[tuple[str, int], ...] = CASES, modes: tuple[str, ...] = MODES[:3], rounds: int = 9
) -> list[dict[str, Any]]:
    """Measure and print; the rows."""
    return show((run_case(name, batch, modes, rounds) for name, batch in cases), COLUMNS)
