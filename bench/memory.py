"""Peak memory of a training step: how much a process grows from just before the first step to its highest point.

Each contender has a process of its own; the network's weights and the batch are there before the count starts.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from typing import Any

from .peers import TorchTraining
from .timing import case_name, show
from .train import CASES, ours

COLUMNS = [
    ("name", "training step", "20s"),
    ("fastcnn_mb", "fastcnn MB", ".0f"),
    ("torch_mb", "PyTorch MB", ".0f"),
    ("torch_mode", "its best mode", "s"),
    ("ratio", "of PyTorch", ".2f"),
]
MODES = ("eager", "channels_last")


def peak_bytes() -> int:
    """The most memory that this process has had; macOS counts it in bytes, Linux in KiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def growth(name: str, batch: int, who: str) -> int:
    """Bytes by which this process grows in four steps of "fastcnn" or of PyTorch in a mode."""
    model, x, y, step = ours(name, batch)
    if who != "fastcnn":
        state = model.state_dict()
        TorchTraining(
            name, who, state, x[:2], y[:2], 1e-3
        ).step()  # initialises the libraries before the count
        peer = TorchTraining(name, who, state, x, y, 1e-3)
    before = peak_bytes()
    for _ in range(4):
        _ = step.step(x, y) if who == "fastcnn" else peer.step()
    return peak_bytes() - before


def growth_mb(name: str, batch: int, who: str) -> float:
    """The same in a process of its own, in MiB."""
    code = f"from {__package__} import memory; print(memory.growth({name!r}, {batch}, {who!r}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(run.stdout) / 2**20


def run_case(name: str, batch: int) -> dict[str, Any]:
    row = {"name": case_name((name, batch)), "fastcnn_mb": growth_mb(name, batch, "fastcnn")}
    try:
        peers = {mode: growth_mb(name, batch, mode) for mode in MODES}
    except subprocess.CalledProcessError:
        return row  # no PyTorch here
    best = min(peers, key=lambda mode: peers[mode])
    return row | {"torch_mb": peers[best], "torch_mode": best, "ratio": row["fastcnn_mb"] / peers[best]}


def run(cases: tuple[tuple[str, int], ...] = CASES) -> list[dict[str, Any]]:
    """Measure and print; the rows."""
    return show((run_case(name, batch) for name, batch in cases), COLUMNS)
