"""Orders of use from several threads, with changing numbers of threads, and across fork."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from alone import alone
from orders import (
    convolutions,
    in_threads,
    labels,
    needs_fork,
    normal,
    sgd,
    training_step,
)

import fastcnn
import fastcnn.functional as F
from fastcnn import _core, nn

# ---- the number of threads


@alone()
def test_the_number_of_threads_may_change_while_ops_run_on_arrays() -> None:
    x, w, few = normal(4, 64, 20, 20), normal(64, 64, 3, 3, seed=1) / 24, normal(40, 3, 12, 12)
    running = np.zeros(64, np.float32), np.ones(64, np.float32)
    ops: list[Callable[[], np.ndarray]] = [
        lambda: F.conv2d(x, w, padding=1),
        lambda: F.conv2d_backward(x, x, w, padding=1)[1],
        lambda: F.conv2d(x, w[:, :, 1:2, 1:2].copy(), padding=0),
        lambda: F.conv2d(few, w[:6, :3].copy(), padding=1, layout="interleaved"),
        lambda: F.linear(x.reshape(4, -1)[:, :4096].copy(), w.reshape(-1, 4096)),
        lambda: F.max_pool2d(x, 2),
        lambda: F.batch_norm(x, *(r.copy() for r in running), training=True),
        lambda: F.relu(x),
    ]
    wanted = [op() for op in ops]
    done = threading.Event()

    def change() -> None:
        while not done.is_set():
            for n in (1, 3, 2, 5, 1, 2):
                _core.set_num_threads(n)

    def compute() -> None:
        try:
            for _ in range(300):
                for op, want in zip(ops, wanted, strict=True):
                    np.testing.assert_array_equal(op(), want)
        finally:
            done.set()

    in_threads(change, compute)


@alone()
def test_the_number_of_threads_may_change_while_a_model_trains() -> None:
    def losses(change: bool) -> list[float]:
        model, x, y = convolutions(32, norm=True), normal(6, 32, 10, 10), labels(6)
        step, out = training_step(model), []
        for i in range(60):
            if change and i % 3 == 0:
                done.append(i)
            out.append(step.step(x, y)[0])
        return out

    done: list[int] = []
    wanted = losses(False)
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            for n in (1, 3, 2):
                _core.set_num_threads(n)
                time.sleep(0.001)

    def train() -> None:
        try:
            assert losses(True) == wanted
        finally:
            stop.set()

    in_threads(change, train)


# ---- callers side by side


@pytest.mark.parametrize("shapes", ["one shape", "two shapes"])
@alone()
def test_threads_that_share_a_model_get_their_own_gradients(shapes: str) -> None:
    model = convolutions(16)
    sizes = (9, 9) if shapes == "one shape" else (9, 12)
    work = []
    for i, size in enumerate(sizes):
        x, dy = normal(8, 16, size, size, seed=i), normal(8, 10, seed=i)
        y = model(x)
        work.append((x, dy, y, model.backward(dy)))
    assert np.abs(work[0][3]).max() > 0

    def calls(i: int) -> None:
        x, dy, y, dx = work[i]
        for _ in range(150):
            np.testing.assert_array_equal(model(x), y)
            np.testing.assert_array_equal(model.backward(dy), dx)

    in_threads(lambda: calls(0), lambda: calls(1))


def wide() -> nn.Module:
    """A network whose update takes about as long as a prediction."""
    fastcnn.manual_seed(4)
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 700), nn.Tanh(),
        nn.Linear(700, 700), nn.Tanh(), nn.Linear(700, 10),
    )  # fmt: skip


def sharing(model: nn.Module, other: nn.Module | None = None) -> nn.Module:
    """Another wide(), or the given one, of the same parameters and buffers, with modes of its own."""
    other = other or wide()
    for mine, theirs in zip(other.modules(), model.modules(), strict=True):
        for name, held in [*theirs._parameters.items(), *theirs._buffers.items()]:
            if held is not None:
                setattr(mine, name, held)
    return other


def folding() -> nn.Module:
    """Predictions fold every norm into a convolution with many weights, and read nothing else of the model."""
    fastcnn.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(2, 400, 1), nn.BatchNorm2d(400), nn.ReLU(), nn.Conv2d(400, 400, 1), nn.BatchNorm2d(400), nn.ReLU(),
        nn.Conv2d(400, 10, 1), nn.BatchNorm2d(10), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip


def watched_training(
    predictor: Callable[[fastcnn.Trainer], Callable[[np.ndarray], np.ndarray]],
    network: Callable[[], nn.Module] | None = None,
) -> None:
    """Predictions beside training must be those before or after a step, in the order of the steps."""
    steps, x, y, seen_x = 80, normal(4, 2, 6, 6), labels(4), normal(2, 2, 6, 6, seed=1)

    def new_trainer() -> fastcnn.Trainer:
        model = (network or wide)()
        return fastcnn.Trainer(model, sgd(model, lr=0.02, momentum=0.9))

    trainer = new_trainer()
    predict = predictor(trainer)
    after = [predict(seen_x).tobytes()]
    for _ in range(steps):
        trainer.train_step(x, y)
        after.append(predict(seen_x).tobytes())
    assert len(set(after)) == steps + 1
    place = {p: i for i, p in enumerate(after)}
    wrong = disordered = total = 0
    for _ in range(3):
        trainer = new_trainer()
        predict = predictor(trainer)
        seen: list[bytes] = []
        done = threading.Event()

        def train(trainer: fastcnn.Trainer = trainer, done: threading.Event = done) -> None:
            try:
                for _ in range(steps):
                    trainer.train_step(x, y)
            finally:
                done.set()

        def watch(predict=predict, seen: list[bytes] = seen, done: threading.Event = done) -> None:
            while not done.is_set():
                seen.append(predict(seen_x).tobytes())

        in_threads(train, watch)
        steps_seen = [place.get(p, -1) for p in seen]
        known = [s for s in steps_seen if s >= 0]
        wrong, total = wrong + len(seen) - len(known), total + len(seen)
        disordered += known != sorted(known)
        assert predict(seen_x).tobytes() == after[-1]
    assert wrong == 0, f"{wrong} of {total} predictions belong to no step"
    assert disordered == 0


@alone()
def test_predictions_beside_training_see_whole_steps() -> None:
    watched_training(lambda trainer: sharing(trainer.model).eval())


@alone()
def test_predictions_with_folded_norms_beside_training_see_whole_steps() -> None:
    def predictor(trainer: fastcnn.Trainer) -> Callable[[np.ndarray], np.ndarray]:
        same = sharing(trainer.model, folding()).eval()
        assert sum(step["op"] == "fold_channel_affine" for step in same.plan((2, 2, 6, 6)).steps) == 3
        return same

    watched_training(predictor, folding)


@alone()
def test_the_trainer_predicts_while_it_trains() -> None:
    watched_training(lambda trainer: trainer.predict_proba)


@alone()
def test_threads_that_train_one_model_take_turns() -> None:
    x, y = normal(4, 2, 6, 6), labels(4)

    def trained(threads: int) -> tuple[list[float], dict[str, np.ndarray]]:
        model, losses = wide(), []
        trainer = fastcnn.Trainer(model, sgd(model, lr=0.02, momentum=0.9))
        trainer.plan(x.shape)

        def train() -> None:
            for _ in range(60 // threads):
                losses.append(trainer.train_step(x, y))

        in_threads(*[train] * threads)
        return sorted(losses), {k: np.array(v) for k, v in model.state_dict().items() if "tracked" not in k}

    (losses, state), (wanted, wanted_state) = trained(3), trained(1)
    assert losses == wanted
    assert all(np.array_equal(v, wanted_state[k]) for k, v in state.items())


# ---- fork


def in_child(body: Callable[[], bool], seconds: float = 30) -> str:
    """What became of body() in a forked child: "right", "wrong", "raised", "hung" or "signal N"."""
    pid = os.fork()
    if pid == 0:
        status = 3
        try:
            status = 0 if body() else 2
        finally:
            os._exit(status)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            if os.WIFSIGNALED(status):
                return f"signal {os.WTERMSIG(status)}"
            return {0: "right", 2: "wrong"}.get(os.WEXITSTATUS(status), "raised")
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "hung"


def forked_beside(work: Callable[[], object], body: Callable[[], bool], times: int = 5) -> list[str]:
    """What became of body() in children that were forked while another thread was at work."""
    done, results = threading.Event(), []

    def busy() -> None:
        while not done.is_set():
            work()

    def fork() -> None:
        try:
            for i in range(times):
                time.sleep(0.02 + 0.003 * i)
                results.append(in_child(body, seconds=10))
                if results[-1] == "hung":
                    break
        finally:
            done.set()

    in_threads(busy, fork)
    return results


@needs_fork
@pytest.mark.parametrize("which", ["the same model", "another model"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@alone()
def test_a_child_forked_beside_a_running_plan_can_predict(which: str) -> None:
    _core.set_num_threads(2)
    busy, x = convolutions(64).eval(), normal(8, 64, 24, 24)
    model = busy if which == "the same model" else fastcnn.models.create("lenet5").eval()
    mine = x if model is busy else normal(40, 1, 28, 28)
    want = model(mine)
    body = lambda: all(np.array_equal(model(mine), want) for _ in range(3))  # noqa: E731
    ends = forked_beside(lambda: busy(x), body)
    assert ends == ["right"] * 5, ends
    assert body()


@needs_fork
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@alone()
def test_a_child_forked_beside_training_can_train() -> None:
    _core.set_num_threads(2)
    model, x, y = convolutions(64, norm=True), normal(8, 64, 16, 16), labels(8)
    step = training_step(model, lr=1e-3)

    def body() -> bool:
        first, *_, last = (step.step(x, y)[0] for _ in range(3))
        return bool(np.isfinite(first) and np.isfinite(last) and np.isfinite(model.eval()(x)).all())

    ends = forked_beside(lambda: step.step(x, y), body)
    assert ends == ["right"] * 5, ends
    assert body()


@needs_fork
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@alone()
def test_a_child_goes_backward_from_its_parents_forward() -> None:
    model, x = convolutions(16, norm=True), normal(8, 16, 9, 9)
    dy = normal(8, 10)
    model(x)
    want = model.backward(dy)
    model(x)
    assert in_child(lambda: np.array_equal(model.backward(dy), want)) == "right"
    np.testing.assert_array_equal(model.backward(dy), want)
