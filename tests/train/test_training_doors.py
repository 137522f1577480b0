"""What a Trainer is given: the ways of other libraries are understood exactly, or refused with the cure."""

from __future__ import annotations

import copy
import math
import warnings

import numpy as np
import pytest

import fastcnn
from fastcnn import nn, optim
from fastcnn.data import ArrayDataset
from fastcnn.train import SCHEDULES, Trainer, cosine, step_decay, warmup
from fastcnn.train.schedule import ScheduledRate


def images(count=40, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 1, 6, 6), dtype=np.uint8), rng.integers(0, 3, count)


def network():
    fastcnn.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))


def trainer(lr=0.05, **options):
    model = network()
    return Trainer(model, optim.SGD(model.parameters(), lr=lr, **options))


def same(one, other):
    a, b = one.model.state_dict(), other.model.state_dict()
    return all(np.array_equal(a[k], b[k]) for k in a)


# ---- the constructor


@pytest.mark.parametrize(
    "given,message",
    [
        (lambda m, o: ("net", o), "expected a Module as model, got 'net'"),
        (lambda m, o: (nn.Linear, o), "got the class Linear; write Linear"),
        (lambda m, o: (o, m), "expected a Module as model, got fastcnn.optim.SGD"),
        (
            lambda m, o: (m, "sgd"),
            r"expected an SGD optimizer, got 'sgd'; such as fastcnn.optim.SGD\(model",
        ),
        (lambda m, o: (m, optim.SGD), r"got the class SGD; write SGD\(...\)"),
        (lambda m, o: (m, 0.1), "got builtins.float"),
        (
            lambda m, o: (m, o, "sparse_categorical_crossentropy"),
            "expected a CrossEntropyLoss as loss, got 'sparse",
        ),
        (lambda m, o: (m, o, nn.CrossEntropyLoss), r"write CrossEntropyLoss\(...\)"),
        (lambda m, o: (m, o, lambda a, b: 0.0), "with a loss of your own go layer by layer"),
    ],
)
def test_what_is_no_model_optimizer_or_loss_is_named(given, message):
    model = network()
    with pytest.raises(TypeError, match=f"Trainer: .*{message}"):
        Trainer(*given(model, optim.SGD(model.parameters())))


def test_pytorchs_parts_are_named():
    torch = pytest.importorskip("torch")
    theirs, model = torch.nn.Linear(2, 2), network()
    with pytest.raises(TypeError, match=r"as model, got torch.nn.modules.linear.Linear"):
        Trainer(theirs)
    with pytest.raises(TypeError, match=r"an SGD optimizer, got torch.optim.sgd.SGD"):
        Trainer(model, torch.optim.SGD(theirs.parameters(), lr=0.1))
    with pytest.raises(TypeError, match=r"as loss, got torch.nn.modules.loss.CrossEntropyLoss"):
        Trainer(model, optim.SGD(model.parameters()), torch.nn.CrossEntropyLoss())


def test_a_loss_that_a_plan_would_not_call_is_refused():
    class Smoothed(nn.CrossEntropyLoss):
        def __call__(self, logits, labels):
            return 0.9 * super().__call__(logits, labels)

    model = network()
    with pytest.raises(TypeError, match=r"Smoothed has a __call__\(\) of its own"):
        Trainer(model, optim.SGD(model.parameters()), Smoothed())


def test_parameters_of_no_optimizer_are_told_once():
    model = network()
    with pytest.warns(
        UserWarning, match=r"2 trainable parameters of the model will not.*: 4.weight, 4.bias; make"
    ):
        t = Trainer(model, optim.SGD(list(model.parameters())[:4], lr=0.1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        t.fit(images(), 1)  # said already
        model[4].requires_grad_(False)
        Trainer(model, optim.SGD(list(model.parameters())[:4], lr=0.1))
        trainer()


def test_a_head_that_came_after_the_optimizer_is_told():
    t = trainer()
    t.model.add_module("4", nn.Linear(32, 3))
    with pytest.warns(UserWarning, match="4.weight, 4.bias") as caught:
        t.fit(images(), 1)
    assert caught[0].filename == __file__
    for name, part in network().named_children():
        t.model.add_module(name, part)
    with pytest.raises(ValueError, match="none of the optimizer's parameters belong to the model"):
        t.fit(images(), 1)


def test_without_an_optimizer_it_evaluates_and_predicts():
    x, y = images()
    whole = trainer()
    whole.fit((x, y), 1)
    t = Trainer(whole.model)
    assert t.evaluate(x, y) == whole.evaluate(x, y)
    assert np.array_equal(t.predict(x), whole.predict(x))
    for wanted in (
        lambda: t.fit((x, y), 1),
        lambda: t.train_step(np.float32(x), y),
        lambda: t.plan((4, 1, 6, 6)),
    ):
        with pytest.raises(ValueError, match=r"has no optimizer: Trainer\(model, fastcnn.optim.SGD"):
            wanted()
    t.optimizer = whole.optimizer
    t.fit((x, y), 1)
    with pytest.raises(TypeError, match="an SGD optimizer"):
        t.optimizer = None
    assert t.optimizer is whole.optimizer


def test_an_optimizer_that_is_set_is_the_one_that_steps():
    t = trainer(lr=0.0)
    before = t.model.state_dict()["4.weight"]
    t.fit(images(), 1)
    assert np.array_equal(before, t.model.state_dict()["4.weight"])
    t.optimizer = optim.SGD(t.model.parameters(), lr=0.1)
    t.fit(images(), 1)
    assert not np.array_equal(before, t.model.state_dict()["4.weight"])


# ---- fit and evaluate


def test_labels_may_come_second():
    x, y = images()
    runs = [
        lambda t: t.fit((x, y), 2, 8),
        lambda t: t.fit((x, y), epochs=2, batch_size=8),
        lambda t: t.fit(x, y, epochs=2, batch_size=8),
        lambda t: t.fit(x, y, 8, epochs=2),  # Keras' order
        lambda t: t.fit(x=x, y=list(y), batch_size=8, epochs=2, callbacks=None, verbose=0),
        lambda t: t.fit(ArrayDataset(x, y), np.int64(2), 8, callbacks=[]),
    ]
    trained = [trainer() for _ in runs]
    histories = [run(t) for run, t in zip(runs, trained, strict=True)]
    assert all(same(t, trained[0]) and len(h) == 2 for t, h in zip(trained, histories, strict=True))
    t = trained[0]
    assert len(t.fit(x, y)) == 1  # Keras' default
    loss, accuracy = t.evaluate(x, y)
    assert (
        (loss, accuracy) == t.evaluate((x, y)) == t.evaluate((x, y), 256) == t.evaluate(x, y, batch_size=256)
    )
    assert math.isclose(t.evaluate((x, y), 7).loss, loss, rel_tol=1e-5)


@pytest.mark.parametrize("count,part", [(40, 0.2), (41, 0.2), (10, 0.33), (3, 0.5), (7, 0.8)])
def test_validation_split_takes_the_last_ones_before_shuffling(count, part):
    x, y = images(count)
    at = math.floor(count * (1 - part))
    one, other = trainer(), trainer()
    a = one.fit(x, y, epochs=2, batch_size=8, validation_split=part)
    b = other.fit(x[:at], y[:at], epochs=2, batch_size=8, validation_data=ArrayDataset(x[at:], y[at:]))
    assert same(one, other) and a.history == b.history and a[0].images == at
    a = one.fit(x, y, validation_split=part, validation_data=(x, y))  # as in Keras: the data given counts
    assert a[0].images == count


@pytest.mark.parametrize("part", [1.0, -0.1, "0.2", 7, 0.99, np.nan, None])
def test_validation_splits_that_cannot_be(part):
    t, (x, y) = trainer(), images()
    if part is None:
        t.fit(x, y, validation_split=part)
        return
    with pytest.raises(ValueError, match="validation_split: "):
        t.fit(x, y, validation_split=part)


def test_numbers_of_epochs_and_images_are_whole():
    t, data = trainer(), images()
    given = [("epochs", 1.5), ("epochs", "3"), ("epochs", True), ("batch_size", 1.5), ("initial_epoch", 0.5)]
    for name, wrong in given:
        with pytest.raises(TypeError, match=f"{name} must be a whole number of at least [01], got {wrong!r}"):
            t.fit(data, **{"epochs": 2, name: wrong})
    with pytest.raises(TypeError, match=r"epochs must be a whole number of at least 1, got 1.5"):
        t.fit(data, 1.5)
    with pytest.raises(TypeError, match="labels as the second argument beside epochs=3, got 5"):
        t.fit(data, 5, epochs=3)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        t.evaluate(data, 0)
    with pytest.raises(ValueError, match="initial_epoch must be less than the 3 epochs in all, got 3"):
        t.fit(data, 3, initial_epoch=3)
    with pytest.raises(ValueError, match="on_interrupt: expected 'raise' or 'return', got 'stop'"):
        t.fit(data, 3, on_interrupt="stop")
    assert t.epochs == 0 and t.preprocessing is None


def test_plan_wants_a_shape():
    t = trainer()
    for wrong in (None, "4xCx6x6", (4, 1, 6.0, 6)):
        with pytest.raises(TypeError, match=r"Trainer.plan: "):
            t.plan(wrong)
    with pytest.raises(ValueError, match=r"Trainer.plan"):
        t.plan((4, 1, -6, 6))
    assert t.plan([4, 1, 6, 6]) is t.plan(np.zeros((4, 1, 6, 6), np.float32)) is t.plan((4, 1, 6, 6))


def test_steps_train_in_training_mode_and_leave_the_model_in_its_own():
    x, y = images()
    x = np.float32(x / 255)
    one, other = trainer(), trainer()
    one.model.eval()
    one.plan(x.shape)
    assert not one.model.training
    assert one.train_step(x, y) == other.train_step(x, y) and same(one, other)
    with pytest.raises(ValueError, match="labels"):
        one.train_step(x, y + 9)
    with pytest.raises(ValueError):
        one.train_step(x, 3)
    assert not one.model.training and not any(m.training for m in one.model.modules())
    one.fit((x, y), 1)
    assert not one.model.training


def test_a_part_in_eval_mode_stays_so_in_training():
    t = trainer()
    t.model[1].eval()
    before = t.model[1].running_mean.data.copy()
    t.fit(images(), 1)
    t.train_step(np.float32(images()[0]), images()[1])
    assert np.array_equal(before, t.model[1].running_mean.data) and not t.model[1].training


def test_a_data_set_may_ask_another_network():
    """Its mode is not that of the network in training."""
    teacher = network().eval()
    x = images()[0]

    class Taught:
        def __len__(self):
            return len(x)

        def batch(self, indices, key=None):
            pixels = np.float32(x[indices] / 255)
            assert not teacher.training
            return pixels, teacher(pixels).argmax(axis=1)

    t = trainer()
    before = teacher.state_dict()
    t.fit(Taught(), 2)
    assert all(np.array_equal(v, before[k]) for k, v in teacher.state_dict().items())
    assert t.preprocessing is None and t.model.classes is None


def test_the_model_learns_what_its_data_is():
    x, y = images()
    t = trainer()
    t.fit(ArrayDataset(x, y, classes=("a", "b", "c")), 1)
    assert t.model.classes == ("a", "b", "c") and t.model.preprocessing.scale == 1 / 255
    assert t.preprocessing is t.model.preprocessing
    t.preprocessing = None
    assert t.model.preprocessing is None


def test_verbose_is_keras_word_for_progress(capfd):
    t, data = trainer(), images()
    t.fit(data, 2, verbose=0)
    assert capfd.readouterr() == ("", "")
    t.fit(data, 2, verbose=1)
    assert "images/s" in capfd.readouterr().err
    t.fit(data, 2, verbose=2, validation_split=0.2)
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2 and "5/6" in lines[0] and "6/6" in lines[1]
    t.fit(data, 2, verbose="auto")
    for wrong in (3, "loud", 1.0, [1]):
        with pytest.raises(ValueError, match="verbose: expected 0, 1, 2 or 'auto'"):
            t.fit(data, 1, verbose=wrong)
    with pytest.raises(TypeError, match="progress or verbose, got both"):
        t.fit(data, 1, verbose=1, progress=True)


def test_an_evaluation_is_printed_on_request(capsys):
    t, (x, y) = trainer(), images()
    t.fit(x, y)
    quiet = t.evaluate(x, y)
    assert capsys.readouterr().out == "" and t.evaluate(x, y, verbose=2) == quiet
    assert capsys.readouterr().out == f"loss {quiet.loss:.4f}  accuracy {100 * quiet.accuracy:.2f} %\n"


def test_the_bar_counts_on_from_the_epochs_before(capfd):
    t = trainer()
    t.fit(images(), 2)
    t.fit(images(), 3, progress=True)
    assert "3/5" in capfd.readouterr().err


def test_histories_have_keras_names():
    t = trainer()
    h = t.fit(images(), 3)
    assert list(h.history) == ["loss", "accuracy", "lr"] and len(h.history["loss"]) == 3
    h = t.fit(images(), 2, validation_data=images(20, 1), schedule="cosine")
    assert list(h.history) == ["loss", "accuracy", "val_loss", "val_accuracy", "lr"]
    assert h["val_accuracy"] == [e.validation.accuracy for e in h] and h["loss"][-1] == h[-1].loss
    assert h["lr"] == [e.lr for e in h] and t.history is h
    with pytest.raises(
        KeyError, match="expected one of loss, accuracy, val_loss, val_accuracy, lr, got 'acc'"
    ):
        h["acc"]


def test_a_representation_is_one_line():
    t = trainer()
    t.fit(images(), 2)
    want = "Trainer(Sequential, SGD(lr=0.05; parameters: 6), CrossEntropyLoss(reduction='mean'); epochs: 2)"
    assert repr(t) == want
    assert "None" in repr(Trainer(network()))


# ---- callbacks and schedules


def test_one_callback_needs_no_list(capsys):
    t = trainer()
    t.fit(images(), 2, callbacks=print)
    assert capsys.readouterr().out.count("EpochRecord(") == 2
    assert len(t.fit(images(), 5, callbacks=lambda r: np.float32(r.loss) > 0)) == 1  # NumPy's True too
    assert len(t.fit(images(), 2, callbacks=lambda r: 1)) == 2

    class EarlyStopping:
        def on_epoch_end(self, epoch, logs=None):
            raise AssertionError

    for wrong, named in (([EarlyStopping()], "EarlyStopping"), (EarlyStopping, "the class"), (3, "int")):
        with pytest.raises(TypeError, match=f"functions that take an EpochRecord, got {named}"):
            t.fit(images(), 1, callbacks=wrong)


def test_schedules_have_names():
    by_name, by_function = trainer(), trainer()
    by_name.fit(images(), 2, schedule="cosine")
    by_function.fit(images(), 2, schedule=cosine)
    assert same(by_name, by_function) and by_name.optimizer.lr == 0.05
    assert set(SCHEDULES) == {"none", "cosine", "steps"}
    with pytest.raises(
        ValueError, match="schedule: expected one of none, cosine, steps, or a function, got 'exp'"
    ):
        by_name.fit(images(), 2, schedule="exp")


@pytest.mark.parametrize(
    "schedule",
    [3, None.__class__, lambda: 1.0, lambda a, b, c: 1.0, object()],
    ids=lambda s: type(s).__name__,
)
def test_what_is_no_schedule_is_refused(schedule):
    with pytest.raises(TypeError, match=r"schedule: expected a function of the part .* \(epoch, lr\)"):
        trainer().fit(images(), 1, schedule=schedule)


@pytest.mark.parametrize("schedule", [lambda epoch: 0.9**epoch, lambda step: 1.0])
def test_a_schedule_of_epochs_alone_would_mean_something_else(schedule):
    with pytest.raises(TypeError, match="write lambda done"):
        trainer().fit(images(), 1, schedule=schedule)


@pytest.mark.parametrize("value", [None, "0.5", -1.0, math.nan, math.inf])
def test_a_schedule_gives_a_factor(value):
    t = trainer()
    with pytest.raises(ValueError, match="schedule: expected a finite number that is not negative"):
        t.fit(images(), 1, schedule=lambda done: value)
    assert t.optimizer.lr == 0.05
    t.fit(images(), 1)


def test_two_arguments_are_keras_scheduler():
    asked, t = [], trainer(lr=0.5)
    t.fit(images(), 2, 10)  # Keras' epochs begin with 0 in each fit

    def halved(epoch, lr):
        asked.append((epoch, lr))
        return lr if epoch < 1 else lr * 0.5

    h = t.fit(images(), 3, 10, schedule=halved)
    assert asked == [(0, 0.5), (1, 0.5), (2, 0.25)] and h["lr"] == [0.5, 0.25, 0.125]
    assert t.optimizer.lr == 0.125  # stays, as there
    asked.clear()
    t.fit(images(), 4, 10, schedule=halved, initial_epoch=2)
    assert asked == [(2, 0.125), (3, 0.0625)]


@pytest.mark.parametrize("epochs,steps", [(5, 1), (7, 3), (22, 4), (49, 3), (98, 2)])
def test_schedules_of_pytorch_are_the_same_written_as_the_table_says(epochs, steps):
    """Its rate of each epoch, in all steps of that epoch."""
    torch = pytest.importorskip("torch")
    schedulers, a, b = torch.optim.lr_scheduler, epochs // 3, epochs // 2
    for make, schedule in (
        (lambda o: schedulers.MultiStepLR(o, [a, b], 0.1), step_decay(0.1, at=(a / epochs, b / epochs))),
        (lambda o: schedulers.ExponentialLR(o, 0.9), lambda done: 0.9 ** int(done * epochs + 1e-9)),
        (lambda o: schedulers.ExponentialLR(o, 0.9), lambda epoch, lr: lr * 0.9 if epoch else lr),
        (lambda o: schedulers.LambdaLR(o, lambda e: 1 / (1 + e)), lambda d: 1 / (1 + int(d * epochs + 1e-9))),
        (
            lambda o: schedulers.CosineAnnealingLR(o, epochs),
            lambda d: cosine(int(d * epochs + 1e-9) / epochs),
        ),
    ):
        theirs = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.5)
        scheduler, ours = make(theirs), trainer(lr=0.5).optimizer
        rate = ScheduledRate(ours, schedule, 0, epochs, steps)
        for _ in range(epochs):
            for _ in range(steps):
                rate.before_step()
                assert ours.lr == pytest.approx(theirs.param_groups[0]["lr"], abs=1e-12)
            theirs.step()
            scheduler.step()


def test_warmup_and_step_decay():
    schedule = warmup("cosine", 0.25)
    assert [schedule(d) for d in (0, 0.125, 0.25)] == [0, 0.5, 1] and abs(schedule(1)) < 1e-12
    assert [step_decay(0.1, at=(1 / 3, 2 / 3))(i / 6) for i in (1, 2, 4)] == pytest.approx([1, 0.1, 0.01])
    with pytest.raises(ValueError, match="warmup: expected a part"):
        warmup("cosine", 5)
    with pytest.raises(TypeError, match="one of epochs"):
        warmup(lambda epoch, lr: lr)
    with pytest.raises(ValueError, match="step_decay: expected parts"):
        step_decay(0.1, at=(30, 60))
    h = trainer(lr=1.0).fit(images(), 4, 10, schedule=step_decay(0.5, at=(0.5,)))
    assert h["lr"] == [1.0, 1.0, 0.5, 0.5]


def test_a_rate_that_a_callback_sets_stays():
    t = trainer(lr=0.4)

    def halve(record):
        t.optimizer.lr *= 0.5

    assert t.fit(images(), 3, 10, callbacks=halve)["lr"] == [0.4, 0.2, 0.1]
    assert t.optimizer.lr == 0.05


def test_a_rate_that_a_callback_sets_is_what_a_schedule_multiplies():
    t = trainer(lr=0.4)

    def once(record):
        if record.epoch == 1:
            t.optimizer.lr = 0.2

    h = t.fit(images(), 2, 10, schedule=lambda done: 1 - done / 2, callbacks=once)
    assert h["lr"] == pytest.approx([0.4 * (1 - 3 / 16), 0.2 * (1 - 7 / 16)])
    assert t.optimizer.lr == 0.2

    def last(record):
        t.optimizer.lr = 0.3

    t.fit(images(), 1, 10, schedule="cosine", callbacks=last)
    assert t.optimizer.lr == 0.3


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_image_changes_nothing_and_blames_nothing_else(bad):
    x, y = images()
    x = np.float32(x / 255)
    x[17, 0, 2, 3] = bad
    t = trainer(momentum=0.9)
    before, numbers = t.model.state_dict(), t.optimizer.state_dict()
    with pytest.raises(FloatingPointError) as e:
        t.fit((x, y), 1, batch_size=40)
    assert "step 1 (epoch 1, batch 1)" in str(e.value) and "learning rate" not in str(e.value)
    assert all(np.array_equal(v, before[k]) for k, v in t.model.state_dict().items())
    assert all(np.array_equal(v, numbers[k]) for k, v in t.optimizer.state_dict().items())
    x[17] = 0
    t.fit((x, y), 1)


def test_a_schedule_moves_the_optimizer_that_takes_the_others_place():
    t = trainer(lr=0.1)
    old, new, seen = t.optimizer, optim.SGD(t.model.parameters(), lr=0.5), []

    def exchange(record):
        seen.append(t.optimizer.lr)
        if record.epoch == 2:
            t.optimizer = new
            assert old.lr == 0.1, "the old one has its own rate again"
        t.optimizer = t.optimizer

    t.fit(images(), 4, 40, schedule=step_decay(0.1, at=(0.25, 0.75)), callbacks=exchange)
    assert seen == pytest.approx([0.1, 0.01, 0.05, 0.005])
    assert (old.lr, new.lr) == (0.1, 0.5)


@pytest.mark.parametrize("form", ["state", "copy"])
def test_an_optimizers_state_is_that_without_the_schedules_factor(form):
    t = trainer(lr=0.1, momentum=0.5)
    kept, seen = [], []

    def keep_and_go_back(record):
        seen.append(t.optimizer.lr)
        copied = copy.deepcopy(t.optimizer)
        kept.append(t.optimizer.state_dict() if form == "state" else copied.state_dict())
        if record.epoch == 3:
            t.optimizer.load_state_dict(kept[1])

    t.fit(images(), 4, 40, schedule=step_decay(0.1, at=(0.25, 0.75)), callbacks=keep_and_go_back)
    assert [float(state["lr"]) for state in kept] == [0.1] * 4
    assert seen == pytest.approx([0.1, 0.01, 0.01, 0.001]) and t.optimizer.lr == 0.1


def test_a_state_whose_rate_is_the_one_of_the_moment_is_taken_over_too():
    t = trainer(lr=0.5)
    other = optim.SGD(t.model.parameters(), lr=0.25).state_dict()
    load = lambda record: t.optimizer.load_state_dict(other) if record.epoch == 2 else None  # noqa: E731
    h = t.fit(images(), 3, 40, schedule=lambda done: 1.0 if done == 0 else 0.5, callbacks=load)
    assert [r.lr for r in h] == pytest.approx([0.5, 0.25, 0.125]) and t.optimizer.lr == 0.25
