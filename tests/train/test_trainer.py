"""The training loop: what it learns, reports, survives and promises."""

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
from fastcnn import data, models, nn
from fastcnn.data import ArrayDataset
from fastcnn.train import Trainer, constant, cosine, steps


def blobs(n=256, classes=4, seed=0):
    """Images whose bright quarter tells the class: easy to learn, uint8 (n, 1, 8, 8)."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    x = rng.integers(0, 60, (n, 1, 8, 8), dtype=np.uint8)
    for i, c in enumerate(y):
        top, left = 4 * (c // 2), 4 * (c % 2)
        x[i, 0, top : top + 4, left : left + 4] += 150
    return x, y


def network(seed=0):
    fastcnn.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, init="xavier"),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 4, init="xavier"),
    )


def trainer(lr=0.1, seed=0, **options):
    model = network(seed)
    return Trainer(model, fastcnn.optim.SGD(model.parameters(), lr=lr, **options), nn.CrossEntropyLoss())


def weights(model):
    return {k: v.copy() for k, v in model.state_dict().items()}


def same(a, b):
    return all(np.array_equal(a[k], b[k]) for k in a)


def test_learns_and_reports():
    t = trainer(momentum=0.9)
    history = t.fit(blobs(), epochs=5, batch_size=30, validation_data=blobs(64, seed=1), seed=3)
    assert len(history) == 5 and not history.interrupted
    assert history[-1].validation.accuracy == 1.0 and history[-1].loss < history[0].loss
    assert history[0].images == 256 and history.seconds > 0 and history[0].images_per_second > 0
    assert t.evaluate(blobs(64, seed=1)) == history[-1].validation
    text = str(history)
    assert "held-out accuracy" in text and "100.00 %" in text
    assert len(history.to_dict()["epochs"]) == 5


def test_predictions():
    t = trainer(momentum=0.9)
    x, y = blobs()
    t.fit((x, y), epochs=5, batch_size=32)
    proba = t.predict_proba(x[:50])
    assert proba.shape == (50, 4) and proba.dtype == np.float32
    assert np.allclose(proba.sum(axis=1), 1, atol=1e-6)
    assert np.array_equal(t.predict(x), y)
    as_floats = (x / np.float32(255)).astype(np.float32)
    assert np.allclose(t.predict_proba(as_floats[:50]), proba, atol=1e-6)
    assert np.array_equal(t.predict(ArrayDataset(x, y)), y)


def test_predictions_follow_the_weights():
    """What inference keeps (packed weights, folded batch norm) is made anew after each change."""
    fastcnn.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 4))
    t = Trainer(model, fastcnn.optim.SGD(model.parameters(), lr=0.05))
    x = blobs(16)[0]
    seen = []
    for _ in range(2):
        t.fit(blobs(), epochs=1, batch_size=32)
        fresh = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 4)
        )
        fresh.load_state_dict(model.state_dict())
        fresh.eval()
        seen.append(t.predict_proba(x))
        assert np.array_equal(fastcnn.functional.softmax(fresh(t.preprocessing.apply(x))), seen[-1])
    for _, p in model.named_parameters():
        p.data[...] *= 0.5
    seen.append(t.predict_proba(x))
    assert not np.array_equal(seen[0], seen[1]) and not np.array_equal(seen[1], seen[2])


def test_float_arrays_are_network_input():
    x, y = blobs()
    a, b = trainer(), trainer()
    a.fit((x, y), epochs=1, batch_size=32, seed=1)
    b.fit((x * np.float32(1 / 255), y), epochs=1, batch_size=32, seed=1)
    for k, v in a.model.state_dict().items():
        assert np.allclose(v, b.model.state_dict()[k], atol=1e-5)


def test_train_step_is_one_update():
    t = trainer()
    x, y = blobs(32)
    x = x.astype(np.float32) / 255
    before = weights(t.model)
    first = t.train_step(x, y)
    assert isinstance(first, float) and not same(before, t.model.state_dict())
    assert t.train_step(x, y) < first
    reference = nn.CrossEntropyLoss()
    model = network()
    assert abs(reference(model(x), y) - first) < 1e-5


def test_a_summed_loss_is_reported_per_image():
    """Powers of two: with a learning rate of a 32nd, training is the same bit by bit."""
    x, y = blobs()
    losses = []
    for reduction, lr in (("mean", 0.25), ("sum", 0.25 / 32)):
        model = network()
        t = Trainer(model, fastcnn.optim.SGD(model.parameters(), lr=lr), nn.CrossEntropyLoss(reduction))
        history = t.fit((x, y), epochs=2, batch_size=32, validation_data=(x, y))
        losses.append([e.loss for e in history] + [e.validation.loss for e in history])
        losses[-1].append(t.train_step(np.float32(x[:32] / 255), y[:32]))
    assert np.allclose(*losses, rtol=1e-5)


def test_the_seed_and_nothing_else_decides():
    def run(seed, threads):
        before = fastcnn.get_num_threads()
        fastcnn.set_num_threads(threads)
        try:
            t = trainer(momentum=0.9)
            t.fit(blobs(), epochs=2, batch_size=30, seed=seed)
            return weights(t.model)
        finally:
            fastcnn.set_num_threads(before)

    assert same(run(1, 1), run(1, 2))
    assert same(run(1, 2), run(1, 2))
    assert not same(run(1, 1), run(2, 1))


def test_fit_in_two_parts_is_fit_in_one():
    whole, parts = trainer(momentum=0.9), trainer(momentum=0.9)
    whole.fit(blobs(), epochs=3, batch_size=30)
    parts.fit(blobs(), epochs=1, batch_size=30)
    history = parts.fit(blobs(), epochs=2, batch_size=30)
    assert [e.epoch for e in history.epochs] == [2, 3]
    assert same(weights(whole.model), weights(parts.model))


def test_schedules():
    assert constant(0.3) == 1.0
    assert cosine(0.0) == 1.0 and abs(cosine(1.0)) < 1e-12
    assert [steps(x) for x in (0.0, 0.5, 0.8)] == [1.0, 0.1, 0.01]
    t = trainer(lr=0.1)
    seen = []
    t.fit(blobs(), epochs=4, batch_size=64, schedule=lambda done: seen.append(done) or cosine(done))
    assert seen == [i / 16 for i in range(16)]
    assert t.optimizer.lr == 0.1


def test_a_schedule_of_zero_changes_nothing():
    t = trainer()
    before = weights(t.model)
    t.fit(blobs(), epochs=1, batch_size=64, schedule=lambda done: 0.0)
    assert same(before, t.model.state_dict())


def test_callbacks_can_end_it():
    seen = []
    history = trainer().fit(
        blobs(),
        epochs=9,
        batch_size=64,
        callbacks=[lambda record: seen.append(record.epoch) or record.epoch == 3],
    )
    assert seen == [1, 2, 3] and len(history) == 3


def test_evaluation_leaves_the_mode_alone():
    t = trainer()
    t.model.train()
    t.preprocessing = data.Preprocessing()
    t.evaluate(blobs(16))
    t.predict(blobs(16)[0])
    assert t.model.training
    t.model.eval()
    t.fit(blobs(), epochs=1)
    assert not t.model.training


def test_a_loss_that_is_not_finite_names_step_and_layer():
    t = trainer()
    t.fit(blobs(), epochs=1, batch_size=64)
    for name, p in t.model.named_parameters():
        if name == "4.weight":
            p.data[0, 0] = np.nan
    with pytest.raises(FloatingPointError, match=r"step 5 \(epoch 2, batch 1\).*(Conv2d|Linear)"):
        t.fit(blobs(), epochs=1, batch_size=64)


def test_a_bad_input_is_named_as_such():
    x, y = blobs(16)
    x = x.astype(np.float32)
    x[3, 0, 0, 0] = np.nan
    t = trainer()
    before = weights(t.model)
    with pytest.raises(
        FloatingPointError, match=r"step 1: there is nan in the input, at \[3, 0, 0, 0\]; nothing was"
    ):
        t.train_step(x, y)
    assert same(before, t.model.state_dict()) and t.optimizer.steps == 0


def test_bad_arguments():
    t = trainer()
    with pytest.raises(ValueError, match="epochs must be at least 1"):
        t.fit(blobs(), epochs=0)
    with pytest.raises(ValueError, match="batch_size"):
        t.fit(blobs(), epochs=1, batch_size=0)
    with pytest.raises(TypeError, match="data set or a pair"):
        t.fit(blobs()[0], epochs=1)
    with pytest.raises(ValueError, match="no images"):
        t.fit((np.zeros((0, 1, 8, 8), np.uint8), []), epochs=1)
    with pytest.raises(ValueError):
        t.fit((blobs()[0], np.full(256, 4)), epochs=1)  # four classes: 0 to 3


@pytest.fixture
def heard():
    """SIGINT as in a terminal: a shell that starts the tests in the background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
def test_interrupt_ends_after_the_step():
    """SIGINT while training: the model works, the history says so."""
    t = trainer()
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals reach the main thread only")
    threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    history = t.fit(blobs(), epochs=10**7, batch_size=16, on_interrupt="return")
    assert history.interrupted and len(history) >= 1
    assert np.isfinite(t.evaluate(blobs()).loss)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_bar_is_quiet_without_a_terminal(capfd):
    trainer().fit(blobs(), epochs=1)
    out = capfd.readouterr()
    assert out.out == "" and out.err == ""
    trainer().fit(blobs(), epochs=2, validation_data=blobs(16), progress=True)
    assert "images/s" in capfd.readouterr().err


def test_training_in_a_thread_works():
    done = []
    thread = threading.Thread(target=lambda: done.append(trainer().fit(blobs(), epochs=1)))
    thread.start()
    thread.join(60)
    assert len(done) == 1


@pytest.mark.slow
def test_lenet5_learns_the_digits():
    fastcnn.manual_seed(0)
    model = models.create("lenet5")
    t = Trainer(model, fastcnn.optim.SGD(model.parameters(), lr=0.05, momentum=0.9))
    t.fit(data.digits(), epochs=15, batch_size=32, schedule=cosine)
    assert t.evaluate(data.digits(train=False)).accuracy >= 0.96


def test_importing_fastcnn_stays_light():
    code = textwrap.dedent(
        """
        import sys, fastcnn
        heavy = [m for m in ("rich", "typer", "PIL", "safetensors", "urllib.request") if m in sys.modules]
        assert not heavy, heavy
        import fastcnn.train, fastcnn.data, fastcnn.io, fastcnn.models
        heavy = [m for m in ("rich", "typer", "PIL") if m in sys.modules]
        assert not heavy, heavy
        """
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.usefixtures("heard")
def test_a_second_interrupt_stops_at_once():
    from fastcnn.train.interrupt import StopRequest

    with pytest.raises(KeyboardInterrupt), StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        assert stop.requested
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_plan_of_a_training_step_is_shown():
    t = trainer(momentum=0.9)
    plan = t.plan((30, 1, 8, 8))
    text = plan.describe()
    assert "softmax_cross_entropy" in text and text.count("sgd:") == 4 and t.model.training
    assert plan is t.plan((30, 1, 8, 8))
