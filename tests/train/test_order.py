"""Training that is interrupted, fails, is resumed or shares its model: what holds then, and what goes on."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

import fastcnn
from fastcnn import nn, optim
from fastcnn.data import ArrayDataset
from fastcnn.train import Trainer


def images(count=40, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 1, 6, 6), dtype=np.uint8), rng.integers(0, 3, count)


def network(seed=0):
    fastcnn.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))


def trainer(lr=0.05, seed=0, **options):
    model = network(seed)
    return Trainer(model, optim.SGD(model.parameters(), lr=lr, momentum=0.9, **options))


def state_is(one, other):
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def through_npz(state):
    np.savez(file := io.BytesIO(), **state)
    file.seek(0)
    return np.load(file)


@pytest.fixture
def heard():
    """SIGINT as in a terminal: a shell that starts the tests in the background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.01)


class Watched:
    """A data set that does something before each batch, whose number (from 1) it gets."""

    def __init__(self, before, data=None):
        self.data, self.before, self.reads = ArrayDataset(*(images() if data is None else data)), before, 0
        self.preprocessing = self.data.preprocessing

    def __len__(self):
        return len(self.data)

    def batch(self, indices, key=None):
        self.reads += 1
        self.before(self.reads)
        return self.data.batch(indices, key)


def interrupting(at, data=None):
    """Ctrl-C when this batch (from 1) is read."""
    return Watched(lambda reads: interrupt() if reads == at else None, data)


# ---- Ctrl-C


@pytest.mark.usefixtures("heard")
def test_ctrl_c_ends_after_the_step_and_is_passed_on(capfd):
    t, seen = trainer(), []
    with pytest.raises(
        KeyboardInterrupt, match=r"training ended in epoch 2; trainer.history has what was done"
    ):
        t.fit(interrupting(6), 9, 10, callbacks=lambda record: seen.append(record.epoch))
    assert capfd.readouterr().err == "stopping after this step; Ctrl-C again stops at once\n"
    assert t.history.interrupted and [e.images for e in t.history] == [40, 20] and t.optimizer.steps == 6
    assert seen == [1]  # callbacks see whole epochs
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert np.isfinite(t.evaluate(images()).loss)
    assert not t.fit(images(), 1).interrupted


@pytest.mark.usefixtures("heard")
def test_a_script_that_loops_over_settings_ends_with_one_ctrl_c():
    begun = []
    with pytest.raises(KeyboardInterrupt):
        for lr in (0.1, 0.05, 0.01):
            begun.append(lr)
            trainer(lr).fit(interrupting(2), 2, 10)
    assert begun == [0.1]


@pytest.mark.usefixtures("heard")
def test_the_history_may_be_wanted_instead():
    t = trainer()
    history = t.fit(interrupting(6), 9, 10, schedule="cosine", on_interrupt="return")
    assert history is t.history and history.interrupted and len(history) == 2
    assert t.optimizer.lr == 0.05


@pytest.mark.usefixtures("heard")
def test_a_second_ctrl_c_stops_at_once_and_leaves_things_in_order():
    t = trainer()
    t.model.eval()

    def stuck(reads):
        interrupt()
        interrupt()
        raise AssertionError

    for asked in ("raise", "return"):
        with pytest.raises(KeyboardInterrupt):
            t.fit(Watched(stuck), 2, 10, schedule="cosine", on_interrupt=asked)
        assert t.history.interrupted and len(t.history) == 0 and t.optimizer.lr == 0.05
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler and not t.model.training
    assert len(t.fit(images(), 1)) == 1


@pytest.mark.usefixtures("heard")
def test_ctrl_c_ends_an_evaluation_between_epochs():
    held_out = interrupting(2, images(600, 1))  # of three batches
    t, seen = trainer(), []
    history = t.fit(images(), 5, 10, held_out, callbacks=seen.append, on_interrupt="return")
    assert history.interrupted and len(history) == 1 and history[0].validation is None
    assert held_out.reads == 2 and seen == [] and "val_loss" not in history.history
    held_out = interrupting(5, images(600, 1))
    history = t.fit(images(), 5, 10, held_out, on_interrupt="return")
    assert np.isnan(history["val_loss"]).tolist() == [False, True]


@pytest.mark.usefixtures("heard")
def test_a_ctrl_c_in_the_last_callback_is_not_lost():
    t = trainer()
    with pytest.raises(KeyboardInterrupt):
        t.fit(images(), 2, callbacks=lambda record: interrupt() if record.epoch == 2 else None)
    assert len(t.history) == 2


@pytest.mark.usefixtures("heard")
def test_a_training_inside_another_passes_it_on():
    inner, outer = trainer(), trainer()
    with pytest.raises(KeyboardInterrupt):
        outer.fit(
            images(), 5, 10, callbacks=lambda record: inner.fit(interrupting(2), 5, 10), schedule="cosine"
        )
    assert inner.history.interrupted and outer.history.interrupted and len(outer.history) == 1
    assert outer.optimizer.lr == 0.05
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_where_interrupts_are_ignored_they_stay_so():
    """A shell's background jobs: Ctrl-C is for what runs in front."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        history = trainer().fit(interrupting(2), 2, 10)
        assert not history.interrupted and len(history) == 2
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
def test_nobody_need_read_the_line(monkeypatch):
    with open(os.devnull) as read_only:
        for stream in (None, read_only):
            monkeypatch.setattr(sys, "stderr", stream)
            with pytest.raises(KeyboardInterrupt):
                trainer().fit(interrupting(2), 2, 10, progress=False)


def test_a_program_ends_with_ctrl_c(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            import signal, numpy as np, fastcnn
            signal.signal(signal.SIGINT, signal.default_int_handler)
            x, y = np.zeros((64, 1, 28, 28), np.uint8), np.zeros(64, int)
            for lr in (0.1, 0.01):
                model = fastcnn.models.create("lenet5")
                print("begun", flush=True)
                fastcnn.Trainer(model, fastcnn.optim.SGD(model.parameters(), lr=lr)).fit((x, y), 10**6)
            """
        )
    )
    process = subprocess.Popen(
        [sys.executable, program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT and out == "", (out, errors)
    assert "stopping after this step" in errors and errors.rstrip().splitlines()[-1].startswith(
        "KeyboardInterrupt: "
    )


# ---- what fails


def test_training_goes_on_after_data_that_failed():
    def fails(reads):
        if reads == 6:
            raise OSError("disk")

    t = trainer()
    t.model.eval()
    with pytest.raises(OSError, match="disk"):
        t.fit(Watched(fails), 4, 10, schedule="cosine")
    assert t.epochs == 1 and len(t.history) == 1 and not t.history.interrupted
    assert t.optimizer.lr == 0.05 and not t.model.training
    assert [e.epoch for e in t.fit(images(), 2, 10)] == [2, 3]


def test_training_goes_on_after_a_callback_that_failed():
    whole, t = trainer(), trainer()
    whole.fit(images(), 3, 10)

    def fails(record):
        if record.epoch == 1:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        t.fit(images(), 3, 10, schedule=lambda done: 1.0, callbacks=fails)
    assert t.epochs == 1 and len(t.history) == 1 and t.optimizer.lr == 0.05
    t.fit(images(), 2, 10)
    assert state_is(whole, t)


def test_arguments_that_are_refused_leave_the_last_history():
    t = trainer()
    history = t.fit(images(), 1)
    for wrong in ({"epochs": 0}, {"callbacks": 3}, {"schedule": "x"}, {"validation_data": 3}):
        with pytest.raises((ValueError, TypeError)):
            t.fit(images(), **{"epochs": 1, **wrong})
    assert t.history is history and t.epochs == 1


# ---- resuming


@pytest.mark.parametrize(
    "schedule", [None, "cosine", lambda epoch, lr: lr * 0.5], ids=["none", "cosine", "keras"]
)
def test_two_epochs_and_two_resumed_are_four(schedule):
    whole, first = trainer(weight_decay=1e-3, nesterov=True), trainer(weight_decay=1e-3, nesterov=True)
    states = []
    want = whole.fit(images(), 4, 12, schedule=schedule, seed=3)
    first.fit(
        images(),
        4,
        12,
        schedule=schedule,
        seed=3,
        callbacks=lambda r: states.append(first.state_dict()) or r.epoch == 2,
    )
    rest = trainer(lr=9.0, seed=5)
    rest.load_state_dict(through_npz(states[-1]))
    assert rest.epochs == 2
    got = rest.fit(images(), 4, 12, schedule=schedule, seed=3, initial_epoch=rest.epochs)
    assert state_is(whole, rest)
    assert got["loss"] == want["loss"][2:] and got["lr"] == want["lr"][2:]
    assert [e.epoch for e in got] == [3, 4]


def test_a_state_taken_under_a_schedule_has_the_rate_without_its_factor():
    t, rates = trainer(), []
    t.fit(
        images(),
        3,
        10,
        schedule="cosine",
        callbacks=lambda r: rates.append(float(t.state_dict()["optimizer.lr"])),
    )
    assert rates == [0.05] * 3 and t.state_dict()["optimizer.lr"] == 0.05


@pytest.mark.usefixtures("heard")
def test_an_interrupted_training_is_resumed():
    t = trainer()
    with pytest.raises(KeyboardInterrupt):
        t.fit(interrupting(6), 4, 10, schedule="cosine")
    rest = trainer(seed=1)
    rest.load_state_dict(through_npz(t.state_dict()))
    a = t.fit(images(), 4, 10, schedule="cosine", initial_epoch=t.epochs)
    b = rest.fit(images(), 4, 10, schedule="cosine", initial_epoch=rest.epochs)
    assert [e.epoch for e in b] == [3, 4] and a.history == b.history and state_is(t, rest)


def test_a_state_that_does_not_fit_changes_nothing():
    t, other = trainer(), trainer(seed=1)
    t.fit(images(), 1), other.fit(images(), 2)
    before, good = t.state_dict(), other.state_dict()
    small = nn.Sequential(nn.Linear(2, 2))
    no_optimizer = Trainer(network(), None)
    for wrong, message in (
        (other.model.state_dict(), "missing: steps, epochs; unexpected: 0.weight"),
        (other.optimizer.state_dict(), "expected what Trainer.state_dict gave"),
        ({**good, "model.0.weight": np.zeros(3)}, "0.weight .expected 2x1x3x3, got 3"),
        ({k: v for k, v in good.items() if k != "optimizer.lr"}, "missing: lr"),
        ({k: v for k, v in good.items() if k != "model.4.bias"}, "missing: 4.bias"),
        ({**good, "optimizer.momentum_buffer.0": np.zeros(3)}, "of the wrong shape: momentum_buffer.0"),
        ({**good, "epochs": -1}, "epochs must be at least 0"),
        (Trainer(small, optim.SGD(small.parameters())).state_dict(), "does not fit"),
        (no_optimizer.state_dict(), "the Trainer has an optimizer, the state has none"),
    ):
        with pytest.raises(ValueError, match=message):
            t.load_state_dict(wrong)
        assert all(np.array_equal(v, before[k]) for k, v in t.state_dict().items())
    with pytest.raises(ValueError, match="the state has an optimizer, the Trainer has none"):
        no_optimizer.load_state_dict(good)
    no_optimizer.load_state_dict(Trainer(other.model).state_dict())
    t.load_state_dict(good)
    assert state_is(t, other)


def test_a_state_is_not_loaded_while_training_runs():
    t = trainer()
    with pytest.raises(RuntimeError, match="fit is running"):
        t.fit(images(), 2, callbacks=lambda record: t.load_state_dict(t.state_dict()))
    t.load_state_dict(t.state_dict())


# ---- who shares


def test_fit_inside_its_own_callback_is_refused():
    t = trainer()
    with pytest.raises(RuntimeError, match="it cannot be called from its callbacks or another thread"):
        t.fit(images(), 3, callbacks=lambda record: t.fit(images(), 1))
    assert t.epochs == 1
    t.fit(images(), 1)


def test_steps_and_predictions_inside_a_callback_are_allowed():
    t, (x, y) = trainer(), images()

    def callback(record):
        t.model.eval()
        t.predict(x)
        t.evaluate(x, y)
        t.train_step(np.float32(x / 255), y)

    t.fit((x, y), 2, callbacks=callback)
    assert t.optimizer.steps == 4 and not t.model.training


def test_two_trainers_of_one_model_take_turns():
    """As two optimizers do, layer by layer: each has its own momentum."""
    model, twin = network(), network()
    one = Trainer(model, optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
    other = Trainer(model, optim.SGD(model.parameters(), lr=0.02, momentum=0.5))
    theirs = [
        optim.SGD(twin.parameters(), lr=0.1, momentum=0.9),
        optim.SGD(twin.parameters(), lr=0.02, momentum=0.5),
    ]
    x, y = np.float32(images()[0] / 255), images()[1]
    criterion = nn.CrossEntropyLoss()
    for turn in (0, 1, 1, 0, 1, 0):
        (one, other)[turn].train_step(x, y)
        theirs[turn].zero_grad()
        criterion(twin(x), y)
        twin.backward(criterion.backward())
        theirs[turn].step()
    for name, value in model.state_dict().items():
        np.testing.assert_allclose(value, twin.state_dict()[name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_training_in_threads_beside_each_other():
    """Each trains its own model; the trainer of another thread's fit is refused."""
    want = trainer()
    want.fit(images(), 3, 10)
    trained = [trainer() for _ in range(3)]
    threads = [threading.Thread(target=t.fit, args=(images(), 3, 10)) for t in trained]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert all(state_is(t, want) for t in trained)

    inside, go, refused = threading.Event(), threading.Event(), []

    def callback(record):
        inside.set()
        go.wait(30)

    t = trainer()
    thread = threading.Thread(target=lambda: t.fit(images(), 1, callbacks=callback))
    thread.start()
    assert inside.wait(30)
    try:
        t.fit(images(), 1)
    except RuntimeError as e:
        refused.append(str(e))
    go.set()
    thread.join(60)
    assert len(refused) == 1 and t.epochs == 1
