"""Peak memory of a training step: how much a process grows from just before the first step to its highest point.

Each contender has a process of its own; the network's weights and the batch are there before the count starts.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from .timing import table
from .train import CASES

COLUMNS = [
    ("name", "training step", "s"),
    ("fastcnn_mb", "fastcnn MB", ".0f"),
    ("torch_mb", "PyTorch MB", ".0f"),
    ("torch_mode", "its best mode", "s"),
    ("ratio", "of PyTorch", ".2f"),
]
MODES = ("eager", "channels_last")

_CHILD = """
import resource, sys
from {package} import peers, train
name, batch, who = sys.argv[1], int(sys.argv[2]), sys.argv[3]
model, x, y, step = train.ours(name, batch)
if who == "fastcnn":
    run = lambda: step.step(x, y)
else:
    small = peers.TorchTraining(name, who, model.state_dict(), x[:2], y[:2], 1e-3)
    small.step()  # libraries are loaded and initialised before the count starts
    peer = peers.TorchTraining(name, who, model.state_dict(), x, y, 1e-3)
    run = peer.step
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for _ in range(4):
    run()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def growth_mb(name: str, batch: int, who: str) -> float:
    code = _CHILD.format(package=__package__)
    run = subprocess.run(
        [sys.executable, "-c", code, name, str(batch), who], capture_output=True, text=True, check=True
    )
    return float(run.stdout) / 1024


def run(cases: tuple[tuple[str, int], ...] = CASES) -> list[dict[str, Any]]:
    """Measure and print; the rows."""
    rows = []
    for name, batch in cases:
        row: dict[str, Any] = {"name": f"{name} b{batch}", "fastcnn_mb": growth_mb(name, batch, "fastcnn")}
        try:
            peers = {mode: growth_mb(name, batch, mode) for mode in MODES}
        except subprocess.CalledProcessError:
            peers = {}  # no PyTorch here
        if peers:
            best = min(peers, key=lambda k: peers[k])
            row |= {"torch_mb": peers[best], "torch_mode": best, "ratio": row["fastcnn_mb"] / peers[best]}
        rows.append(row)
    print(table(rows, COLUMNS))
    return rows
