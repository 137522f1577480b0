"""A stress of threads: forward, backward, predict and train, on shared and separate models, every number checked.

FASTCNN_STRESS_SECONDS says for how long (5 by default); FASTCNN_STRESS_SEED varies the order of the work.
"""

from __future__ import annotations

import collections
import os
import threading
import time
from collections.abc import Callable

import numpy as np
from alone import alone

import fastcnn
import fastcnn.functional as F
from fastcnn import _core, nn

SECONDS = float(os.environ.get("FASTCNN_STRESS_SECONDS", 5))
SEED = int(os.environ.get("FASTCNN_STRESS_SEED", 0))
THREADS = 8
STEPS = 30  # of training a model from its start; each has its loss and its prediction on record


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def network(seed: int = 0, channels: int = 3) -> nn.Module:
    """Convolutions in both layouts, and the batch norm whose statistics training moves."""
    fastcnn.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(channels, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 32, 3),
        nn.Tanh(), nn.Conv2d(32, 32, 3, padding=1), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip


X, Y = normal(12, 3, 14, 14), np.arange(12) % 10
SHAPES = [(1, 3, 14, 14), (5, 3, 14, 14), (12, 3, 10, 18), (33, 3, 8, 8)]


def trainer_of(model: nn.Module) -> fastcnn.Trainer:
    return fastcnn.Trainer(model, fastcnn.optim.SGD(model.parameters(), lr=0.05, momentum=0.9))


def sharing(model: nn.Module) -> nn.Module:
    """A network of model's parameters and buffers, in eval mode whatever model's mode is."""
    other = network()
    for mine, theirs in zip(other.modules(), model.modules(), strict=True):
        for name, held in [*theirs._parameters.items(), *theirs._buffers.items()]:
            setattr(mine, name, held)
    return other.eval()


class Round:
    """A model that several threads train and others watch, for a given number of steps."""

    def __init__(self) -> None:
        model = network(1)
        self.trainer, self.watcher, self.left = trainer_of(model), sharing(model), STEPS


class Work:
    """The tasks of the stress. Each does something, and says whether all numbers were those of one thread alone."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.images = [normal(*shape, seed=i) for i, shape in enumerate(SHAPES)]
        self.eval = network(2).eval()
        self.predictions = [self.eval(x) for x in self.images]
        self.train, self.gradients = network(3), []
        for x in self.images:
            dy = normal(len(x), 10, seed=len(x))
            self.gradients.append((x, dy, self.train(x), self.train.backward(dy)))
        self.round = Round()
        self.losses, self.watched = [], [self.round.watcher(X).tobytes()]
        for _ in range(STEPS):
            self.losses.append(self.round.trainer.train_step(X, Y))
            self.watched.append(self.round.watcher(X).tobytes())
        assert len(set(self.losses)) == STEPS and len(set(self.watched)) == STEPS + 1
        self.round = Round()
        w = normal(64, 64, 3, 3) / 24
        maps = normal(2, 64, 12, 12)
        self.ops: list[Callable[[], np.ndarray]] = [
            lambda: F.conv2d(maps, w, padding=1),
            lambda: F.conv2d_backward(maps, maps, w, padding=1)[1],
            lambda: F.conv2d(X, w[:6, :3].copy(), layout="interleaved"),
            lambda: F.max_pool2d(maps, 2),
            lambda: F.softmax(maps.reshape(2, -1)),
        ]
        self.results = [op() for op in self.ops]

    def predict_on_a_shared_model(self, rng: np.random.Generator) -> bool:
        i = rng.integers(len(SHAPES))
        return np.array_equal(self.eval(self.images[i]), self.predictions[i])

    def go_forward_and_backward_on_a_shared_model(self, rng: np.random.Generator) -> bool:
        x, dy, y, dx = self.gradients[rng.integers(len(SHAPES))]
        return np.array_equal(self.train(x), y) and np.array_equal(self.train.backward(dy), dx)

    def train_a_shared_model(self, rng: np.random.Generator) -> bool:
        with self.lock:
            if self.round.left == 0:
                self.round = Round()
            self.round.left -= 1
            trainer = self.round.trainer
        return trainer.train_step(X, Y) in self.losses

    def watch_a_shared_model(self, rng: np.random.Generator) -> bool:
        return self.round.watcher(X).tobytes() in self.watched

    def train_a_model_of_ones_own(self, rng: np.random.Generator) -> bool:
        with self.lock:  # manual_seed is the process's
            mine = Round()
        losses = [mine.trainer.train_step(X, Y) for _ in range(3)]
        return losses == self.losses[:3] and mine.watcher(X).tobytes() == self.watched[3]

    def take_explicit_steps(self, rng: np.random.Generator) -> bool:
        with self.lock:
            model = network(1)
        criterion, optimizer = nn.CrossEntropyLoss(), trainer_of(model).optimizer
        for want in self.losses[:2]:
            if abs(criterion(model(X), Y) - want) > 1e-4:
                return False
            model.backward(criterion.backward())
            optimizer.step()
            optimizer.zero_grad()
        return True

    def run_ops_on_arrays(self, rng: np.random.Generator) -> bool:
        i = rng.integers(len(self.ops))
        return np.array_equal(self.ops[i](), self.results[i])

    def change_the_number_of_threads(self, rng: np.random.Generator) -> bool:
        if rng.integers(4) == 0:
            _core.set_num_threads(int(rng.integers(1, 4)))
        return True

    def tasks(self) -> list[Callable[[np.random.Generator], bool]]:
        return [
            self.predict_on_a_shared_model, self.go_forward_and_backward_on_a_shared_model, self.train_a_shared_model,
            self.watch_a_shared_model, self.train_a_model_of_ones_own, self.take_explicit_steps,
            self.run_ops_on_arrays, self.change_the_number_of_threads,
        ]  # fmt: skip


@alone(SECONDS + 240)
def test_threads_at_work_side_by_side() -> None:
    work, wrong, done = Work(), collections.Counter[str](), collections.Counter[str]()
    deadline = time.monotonic() + SECONDS

    def worker(number: int) -> None:
        rng = np.random.default_rng([SEED, number])
        tasks = work.tasks()
        first = list(rng.permutation(len(tasks)))  # each at least once, however slow the machine
        while first or time.monotonic() < deadline:
            task = tasks[first.pop() if first else rng.integers(len(tasks))]
            try:
                right, what = task(rng), ""
            except Exception as e:
                right, what = False, f": {type(e).__name__}: {e}"
            with work.lock:
                done[task.__name__] += 1
                if not right:
                    wrong[task.__name__ + what] += 1

    threads = [threading.Thread(target=worker, args=(i,), daemon=True) for i in range(THREADS)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    print({k: int(v) for k, v in done.items()})
    assert not wrong, f"of {dict(done)} were wrong: {dict(wrong)}"
    assert sum(done.values()) >= THREADS * len(work.tasks())
