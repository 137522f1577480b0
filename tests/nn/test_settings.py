"""A plan holds for what forward() read when it was recorded: what changes later is noticed, or refused."""

from __future__ import annotations

import collections
import dataclasses
import random
import sys
import threading
import types
import typing

import numpy as np
import pytest

import fastcnn
from fastcnn import functional as F
from fastcnn import nn

X = np.linspace(-1, 1, 2 * 3 * 4 * 4, dtype=np.float32).reshape(2, 3, 4, 4)
FACTOR = 2.0
TABLE = {"factor": [2.0]}


@dataclasses.dataclass
class Config:
    factor: float = 2.0


class Scaled(nn.Module):
    """x times the factor that it finds in its configuration."""

    def __init__(self, config, read):
        super().__init__()
        self.config, self.read_it = config, read

    def forward(self, x):
        return F.scale(x, self.factor())

    def factor(self):
        return self.read_it(self.config)


def change_dict(c):
    c["factor"] = 3.0


def change_nested(c):
    c["deep"][1]["factor"] = 3.0


def change_object(c):
    c.factor = 3.0


def change_array(c):
    c[...] = 3.0


CONFIGS = {
    "dict": (lambda: {"factor": 2.0}, lambda c: c["factor"], change_dict),
    "list": (lambda: [1.0, 2.0], lambda c: c[-1], lambda c: c.append(3.0)),
    "set": (lambda: {2.0}, max, lambda c: c.add(3.0)),
    "nested": (lambda: {"deep": [0, {"factor": 2.0}]}, lambda c: c["deep"][1]["factor"], change_nested),
    "namespace": (lambda: types.SimpleNamespace(factor=2.0), lambda c: c.factor, change_object),
    "dataclass": (Config, lambda c: c.factor, change_object),
    "array": (lambda: np.array([2.0]), lambda c: float(c[0]), change_array),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", CONFIGS)
def test_settings_that_change_in_place_are_noticed(kind, training) -> None:
    make, read, change = CONFIGS[kind]
    config = make()
    net = Scaled(config, read).train(training)
    for _ in range(2):
        np.testing.assert_array_equal(net(X), 2 * X)
    change(config)
    for _ in range(2):
        np.testing.assert_array_equal(net(X), 3 * X)
    assert len(net.runner()._cache._plans) == 2


def test_globals_and_enclosing_variables_are_noticed(monkeypatch) -> None:
    factor = 1.0

    class Net(nn.Module):
        def forward(self, x):
            return F.scale(x, FACTOR * TABLE["factor"][0] * factor)

    net = Net()
    np.testing.assert_array_equal(net(X), 4 * X)
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    np.testing.assert_array_equal(net(X), 6 * X)
    monkeypatch.setitem(TABLE, "factor", [5.0])
    np.testing.assert_array_equal(net(X), 15 * X)
    factor = 2.0
    np.testing.assert_array_equal(net(X), 30 * X)


def test_a_training_step_notices_too() -> None:
    config = {"factor": 1.0}

    class Net(Scaled):
        def __init__(self):
            super().__init__(config, lambda c: c["factor"])
            self.fc = nn.Linear(48, 5)

        def forward(self, x):
            return self.fc(F.scale(x, self.factor()).flatten(1))

    net = Net()
    trainer = fastcnn.Trainer(net, fastcnn.optim.SGD(net.parameters(), lr=0.0))
    y = np.array([0, 1])
    first = trainer.train_step(X, y)
    config["factor"] = 10.0
    other = trainer.train_step(X, y)
    config["factor"] = 1.0
    assert trainer.train_step(X, y) == first != other


def test_what_forward_leaves_behind_is_no_setting() -> None:
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.log, self.losses = nn.Conv2d(3, 3, 1), [], []

        def forward(self, x):
            self.seen = x
            self.log.append(x.shape)
            self.last = [x]
            return self.conv(x)

    net = Net()
    for step in range(12):
        net.losses.append(step)
        net(X)
    assert len(net.log) <= 3 and len(net.runner()._cache._plans) <= 3


def test_other_lists_of_a_module_plan_nothing_anew() -> None:
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.history = nn.Conv2d(3, 3, 1), []

        def forward(self, x):
            return self.conv(x)

    net = Net()
    for step in range(5):
        net.history.append(step)
        net(X)
    assert len(net.runner()._cache._plans) == 1


class Tossed(nn.Module):
    def forward(self, x):
        return F.relu(x) if random.random() > 0.5 else F.tanh(x)


class TossedByNumPy(nn.Module):
    def forward(self, x):
        return self.choose(x)

    def choose(self, x):
        return F.scale(x, np.random.rand())  # noqa: NPY002


@pytest.mark.parametrize("kind", [Tossed, TossedByNumPy])
def test_random_branches_are_refused(kind) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match=rf"{kind.__name__}.forward draws random numbers"):
            kind()(X)


def test_what_is_not_watched_can_be_recorded_anew() -> None:
    class Net(nn.Module):
        def forward(self, x):
            return F.scale(x, vars(type(self))["factor"])

    net = Net()
    Net.factor = 2.0
    np.testing.assert_array_equal(net(X), 2 * X)
    Net.factor = 3.0
    net.retrace()
    np.testing.assert_array_equal(net(X), 3 * X)


def test_the_shape_of_the_last_good_call_is_kept(tmp_path) -> None:
    """Not of one that failed, nor of a table that was asked for."""
    model = fastcnn.models.create("lenet5")
    model(np.zeros((2, 1, 28, 28), np.float32))
    for wrong in ((2, 3, 28, 28), (2, 1, 20, 20)):
        with pytest.raises(ValueError, match="expected"):
            model(np.zeros(wrong, np.float32))
    model.summary((1, 28, 28))
    net = nn.Sequential(nn.Conv2d(1, 3, 3))
    net(np.zeros((1, 1, 8, 8), np.float32))
    net.summary((1, 96, 96))
    net.plan((1, 1, 50, 50))
    for m, shape in ((model, (1, 28, 28)), (net, (1, 8, 8))):
        fastcnn.save(m, tmp_path / "m")
        assert fastcnn.io.read(tmp_path / "m").input_shape == shape


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.factor, self.steps, self.other = nn.Conv2d(3, 3, 1), 2.0, 0, 1.0

    def forward(self, x):
        return F.scale(self.conv(x), self.factor * self.half)

    @property
    def half(self):
        return self.other / 2


class Derived(Base):
    def forward(self, x):
        return super().forward(x) + getattr(self, "more", 0)


@pytest.mark.parametrize("kind", [Base, Derived])
def test_attributes_that_forward_reads_are_settings_and_others_are_not(kind) -> None:
    net = kind()
    y = net(X)
    for i in range(5):
        net.steps = i
        net.best_accuracy = i / 10
        np.testing.assert_array_equal(net(X), y)
    assert len(net.runner()._cache._plans) == 1
    net.factor = 4.0
    np.testing.assert_allclose(net(X), 2 * y, rtol=1e-6)
    net.other = 4.0
    np.testing.assert_allclose(net(X), 8 * y, rtol=1e-6)
    net.more = 1.0
    np.testing.assert_allclose(net(X), 8 * y + (kind is Derived), rtol=1e-5)


def test_settings_of_layers_and_of_their_subclasses() -> None:
    class Own(nn.LeakyReLU):
        def forward(self, x):
            return super().forward(x)

    for layer in (nn.LeakyReLU(0.5), Own(0.5)):
        assert layer(-X).min() < 0
        layer.negative_slope = 0.0
        assert layer(-X).min() == 0


def test_a_forward_of_code_without_a_module_runs():
    """What ``exec`` makes in a namespace without a name belongs to no module."""
    names = {"nn": nn}
    exec("class Net(nn.Module):\n    def forward(self, x):\n        return 2 * x", names)
    assert names["Net"].forward.__module__ is None
    assert names["Net"]()(np.ones((1, 1, 2, 2), np.float32)).max() == 2


class Names:
    factor = 1.0


def act(x):
    return F.relu(x)


class Slotted:
    __slots__ = ("factor",)

    def __init__(self):
        self.factor = 1.0


class Watching(nn.Module):
    """One reading of a number that is 1, in each of the ways that people have."""

    shared = 1.0
    table: typing.ClassVar = {"factor": 1.0}

    def __init__(self, read, config=None):
        super().__init__()
        self.read, self.config, self.child = read, config, Child()

    def forward(self, x):
        return F.scale(x, self.read(self))

    def method(self, numbers=[1.0]):  # noqa: B006
        return numbers[0]


class Child(nn.Module):
    def __init__(self):
        super().__init__()
        self.k = 1.0

    def forward(self, x):
        return x

    def number(self):
        return self.k


def in_tuple(config):
    config[0][0] = 3.0


WAYS = {
    "class attribute": (lambda m: m.shared, None, lambda m: setattr(Watching, "shared", 3.0)),
    "class dict": (lambda m: m.table["factor"], None, lambda m: Watching.table.update(factor=3.0)),
    "global class": (lambda m: Names.factor, None, lambda m: setattr(Names, "factor", 3.0)),
    "slots": (lambda m: m.config.factor, Slotted, lambda m: setattr(m.config, "factor", 3.0)),
    "deque": (
        lambda m: m.config[0],
        lambda: collections.deque([1.0]),
        lambda m: m.config.__setitem__(0, 3.0),
    ),
    "list in a tuple": (lambda m: m.config[0][0], lambda: ([1.0],), lambda m: in_tuple(m.config)),
    "default": (lambda m: m.method(), None, lambda m: Watching.method.__defaults__[0].__setitem__(0, 3.0)),
    "a child's attribute": (lambda m: m.child.k, None, lambda m: setattr(m.child, "k", 3.0)),
    "a child's method": (lambda m: m.child.number(), None, lambda m: setattr(m.child, "k", 3.0)),
    "getattr": (lambda m: getattr(m, "abc"[0:1], 1.0), None, lambda m: setattr(m, "a", 3.0)),
    "a function's global": (lambda m: helper_number(), None, lambda m: setattr(Names, "factor", 3.0)),
}


def helper_number():
    return Names.factor


@pytest.fixture
def restored():
    yield
    Watching.shared, Watching.table["factor"], Names.factor = 1.0, 1.0, 1.0
    Watching.method.__defaults__[0][0] = 1.0


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_read_a_number_is_watched(way, restored) -> None:
    read, config, change = WAYS[way]
    net = Watching(read, config and config())
    for _ in range(2):
        np.testing.assert_array_equal(net(X), X)
    assert len(net.runner()._cache._plans) == 1
    change(net)
    for _ in range(2):
        np.testing.assert_array_equal(net(X), 3 * X)
    assert len(net.runner()._cache._plans) == 2


def test_an_attribute_that_is_deleted_gives_way_to_the_default() -> None:
    net = Watching(lambda m: getattr(m, "k", 1.0))
    net.k = 3.0
    np.testing.assert_array_equal(net(X), 3 * X)
    del net.k
    np.testing.assert_array_equal(net(X), X)


def test_functions_and_forwards_that_are_put_in_place_of_others(monkeypatch) -> None:
    class Net(nn.Module):
        def forward(self, x):
            return act(x)

    net = Net()
    np.testing.assert_array_equal(net(X), np.maximum(X, 0))
    monkeypatch.setitem(globals(), "act", lambda x: F.scale(x, 2.0))
    np.testing.assert_array_equal(net(X), 2 * X)
    monkeypatch.setattr(Net, "forward", lambda self, x: F.scale(x, 3.0))
    np.testing.assert_array_equal(net(X), 3 * X)
    net.forward = lambda x: F.scale(x, 4.0)
    np.testing.assert_array_equal(net(X), 4 * X)


def test_a_dict_that_forward_also_writes_is_watched_in_the_rest() -> None:
    def read(m):
        m.config["seen"] = m.config.get("seen", 0) + 1
        return m.config["factor"]

    net = Watching(read, {"factor": 1.0})
    for _ in range(4):
        np.testing.assert_array_equal(net(X), X)
    assert net.config["seen"] <= 2
    net.config["factor"] = 3.0
    np.testing.assert_array_equal(net(X), 3 * X)


@pytest.mark.parametrize(
    "make", [lambda: np.random.default_rng(0), lambda: random.Random(0)], ids=["numpy", "python"]
)
def test_generators_of_ones_own_are_refused(make) -> None:
    net = Watching(lambda m: m.config.random(), make())
    with pytest.raises(ValueError, match="draws random numbers from 'config'"):
        net(X)


def test_a_layer_that_comes_or_goes_once_more_is_another_network() -> None:
    pool = nn.AvgPool2d(2)
    net = nn.Sequential(pool)
    assert net(X).shape[2:] == (2, 2)
    net.append(pool)
    assert net(X).shape[2:] == (1, 1)
    del net[1]
    assert net(X).shape[2:] == (2, 2)


def test_properties_with_a_setter_are_set() -> None:
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self._k = 1.0

        @property
        def k(self):
            return self._k

        @k.setter
        def k(self, value):
            self._k = 10 * value

        def forward(self, x):
            return F.scale(x, self.k)

    net = Net()
    np.testing.assert_array_equal(net(X), X)
    net.k = 0.25
    assert net.k == 2.5
    np.testing.assert_array_equal(net(X), 2.5 * X)


def test_a_global_with_the_name_of_a_method_is_none(monkeypatch) -> None:
    class Net(nn.Module):
        def forward(self, x):
            return x.mean((2, 3))

    monkeypatch.setitem(globals(), "mean", 0)
    net = Net()
    for i in range(5):
        monkeypatch.setitem(globals(), "mean", i)
        net(X)
    assert len(net.runner()._cache._plans) == 1


def test_a_parts_retrace_reaches_the_whole(tmp_path) -> None:
    file = tmp_path / "factor"
    file.write_text("1")
    part = Watching(lambda m: float(file.read_text()))
    whole = nn.Sequential(part)
    np.testing.assert_array_equal(whole(X), X)
    file.write_text("3")
    part.retrace()
    np.testing.assert_array_equal(whole(X), 3 * X)


def test_settings_are_never_missed_by_threads_that_predict() -> None:
    net, one = Watching(lambda m: m.shared), np.ones((1, 1, 1, 1), np.float32)
    net.shared = 0.0
    net.eval()(one)
    stop = threading.Event()
    threads = [threading.Thread(target=lambda: [net(one) for _ in iter(stop.is_set, True)]) for _ in range(3)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for t in threads:
            t.start()
        for i in range(300):
            net.shared = float(i)
            assert net(one).item() == i
    finally:
        stop.set()
        for t in threads:
            t.join()
        sys.setswitchinterval(interval)


def test_reading_an_attribute_runs_no_python_outside_of_recordings() -> None:
    net = Watching(lambda m: 1.0)
    net(X)
    assert "__getattribute__" not in vars(nn.Module)
    with pytest.raises(ZeroDivisionError):
        Watching(lambda m: 1 / 0)(X)
    assert "__getattribute__" not in vars(nn.Module)


def test_a_call_of_ones_own_runs_once(tmp_path) -> None:
    class Doubling(nn.Sequential):
        def __call__(self, x):
            return super().__call__(x * 2)

    net = Doubling()
    np.testing.assert_array_equal(net(X), 2 * X)
    np.testing.assert_array_equal(nn.Sequential(net)(X), 2 * X)


def test_arguments_by_name_reach_forward() -> None:
    class Keyed(nn.Module):
        def forward(self, x, mask=None, skip=None, *, factor=1.0):
            y = F.scale(x, factor)
            return y if skip is None else y + skip

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.k = Keyed()

        def forward(self, x):
            return self.k(x, skip=x, factor=3.0)

    np.testing.assert_array_equal(Net()(X), 4 * X)
    with pytest.raises(
        TypeError, match="Keyed: skip: an argument by name alone is for calls inside a forward"
    ):
        Keyed()(X, skip=X)


RNG = np.random.default_rng(0)


def test_generators_that_are_globals_or_enclosed_are_refused() -> None:
    enclosed = random.Random(0)

    class Net(nn.Module):
        def forward(self, x):
            return F.scale(x, RNG.random())

    class Inner(nn.Module):
        def forward(self, x):
            return F.scale(x, enclosed.random())

    for net, name in ((Net(), "RNG"), (Inner(), "enclosed")):
        for _ in range(2):
            with pytest.raises(ValueError, match=f"draws random numbers from '{name}'"):
                net(X)


def test_threads_may_record_one_network_at_once() -> None:
    for _ in range(20):
        net, wrong = Watching(lambda m: m.shared * m.table["factor"] * helper_number()).eval(), []
        start = threading.Barrier(4)

        def call(n, net=net, start=start, wrong=wrong):
            start.wait()
            try:
                for size in (n, n + 4):
                    x = np.ones((size, 1, 3, 3), np.float32)
                    wrong.extend([] if np.array_equal(net(x), x) else [size])
            except BaseException as e:
                wrong.append(e)

        threads = [threading.Thread(target=call, args=(n,)) for n in range(1, 5)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert not wrong


def test_what_a_function_in_anothers_place_reads_is_watched(monkeypatch) -> None:
    factors = [2.0]

    class Net(nn.Module):
        def forward(self, x):
            return act(x)

    net = Net()
    net(X)
    monkeypatch.setitem(globals(), "act", lambda x: F.scale(x, factors[0]))
    np.testing.assert_array_equal(net(X), 2 * X)
    factors[0] = 3.0
    np.testing.assert_array_equal(net(X), 3 * X)
