"""This fastcnn beside another checkout's: `python -m fastcnn.bench.versus OTHER/python [--only NAME ...]`.

Each side is a process that stays for all cases. They take short turns, who begins alternates, and the median of the
rounds' ratios counts. First results are compared bit by bit before anything is timed.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

SMALL = (
    ("lenet5", "train", 64), ("lenet5", "train", 1024), ("lenet5", "infer", 1), ("lenet5", "infer", 128),
    ("resnet20", "train", 128), ("resnet20", "infer", 1), ("resnet20", "infer", 128),
)  # fmt: skip
FIGURES = ("this ms", "other ms", "ratio", "lowest", "highest", "of CPU time")
COLUMNS = [("case", "case", "22s"), *((f, f, ".3f") for f in FIGURES), ("results", "results", "s")]
_START = "import runpy, sys; sys.path.insert(0, sys.argv[1]); runpy.run_path(sys.argv[2])['serve']()"


def serve() -> None:
    """A worker: a case or a number of repeats comes as a line of JSON, results or seconds go back as one."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever prints does not get into the answers
    networks = runpy.run_path(str(Path(__file__).with_name("networks.py")))
    once: Any = None
    answer: Any = networks["fastcnn"].__file__
    while True:
        print(json.dumps(answer), file=answers, flush=True)
        request = json.loads(sys.stdin.readline() or "null")
        if request is None:
            return
        if isinstance(request, list):
            once = None  # its memory goes first
            try:
                once, results, _ = networks["work"](*request)
                answer = {"results": results.tobytes().hex()}
            except ValueError as e:
                answer = {"error": str(e)}
        else:
            start = time.perf_counter(), time.process_time()
            for _ in range(request):
                once()
            answer = [time.perf_counter() - start[0], time.process_time() - start[1]]


class Worker:
    """fastcnn of one checkout, given by its folder `python`."""

    def __init__(self, folder: Path) -> None:
        env = {"OMP_WAIT_POLICY": "passive", **os.environ}  # threads that spin would be in the other's turn
        command, pipe = [sys.executable, "-c", _START, str(folder), __file__], subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=env)
        package = Path(self.ask())
        if not package.resolve().is_relative_to(folder.resolve()):
            raise RuntimeError(f"{folder}: Python imports fastcnn from {package} instead")

    def ask(self, *requests: Any) -> Any:
        for request in requests:
            print(json.dumps(request), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            raise RuntimeError(f"a worker ended with status {self.process.wait()}")
        return json.loads(line)


def compare(sides: tuple[Worker, Worker], case: Any, budget: float) -> dict[str, Any]:
    """One case: 5 to 41 rounds, no more once ``budget`` seconds are spent."""
    row: dict[str, Any] = {"case": "{} {} b{}".format(*case)}
    answers = [side.ask(case) for side in sides]
    if any("error" in a for a in answers):
        return row | {"results": " | ".join(a.get("error", "works") for a in answers)}
    row["results"] = "same bits"
    if answers[0] != answers[1]:
        x, y = (np.frombuffer(bytes.fromhex(a["results"]), np.float32) for a in answers)
        row["results"] = f"{np.abs(x - y).max() / np.abs(y).max():.1e} off"
    repeats = max(1, round(0.03 / min(side.ask(1)[0] for side in sides * 2)))
    times: list[tuple[list[float], list[float]]] = []
    deadline = time.perf_counter() + budget
    while len(times) < 5 or (len(times) < 41 and time.perf_counter() < deadline):
        spent = {i: sides[i].ask(repeats) for i in ((0, 1) if len(times) % 2 else (1, 0))}
        times.append((spent[0], spent[1]))
    ratios = sorted(other[0] / this[0] for this, other in times)
    ms = (statistics.median(t[i][0] for t in times) * 1e3 / repeats for i in (0, 1))
    cpu = statistics.median(other[1] / this[1] for this, other in times)
    figures = (*ms, statistics.median(ratios), ratios[0], ratios[-1], cpu)
    return row | dict(zip(FIGURES, figures, strict=True)) | {"rounds": len(times)}


def main() -> None:
    import fastcnn

    from .networks import LARGE
    from .timing import chosen, show, write_json

    parser = argparse.ArgumentParser(prog="python -m fastcnn.bench.versus", description=__doc__)
    parser.add_argument("other", type=Path, help="folder `python` of the other checkout, its core compiled")
    parser.add_argument("--only", nargs="+", default=[""], metavar="NAME", help="parts of the cases' names")
    parser.add_argument("--seconds", type=float, default=10, help="after which a case gets no more rounds")
    parser.add_argument("--json", help="file for the rows")
    given = parser.parse_args()
    try:
        cases = chosen((*SMALL, *LARGE), given.only)
    except ValueError as e:
        parser.error(str(e))
    sides = Worker(Path(fastcnn.__file__).parents[1]), Worker(given.other)
    rows = show((compare(sides, case, given.seconds) for case in cases), COLUMNS)
    print("ratio: the other's time by this one's; above 1, this one is faster")
    if given.json:
        write_json(given.json, "versus", rows)


if __name__ == "__main__":
    main()
