"""Where plans change layout: each part for itself, by what it costs there and what it costs to get there."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from graphs import LAYOUTS, run_graph
from orders import normal
from tape import Tape, Var, check

import fastcnn
from fastcnn import _core, nn
from fastcnn.nn.engine import ForwardBackward, Inference, TrainingStep


def layouts_of(plan: Any, op: str = "conv2d") -> list[str]:
    return [s["layout"] for s in plan.steps if s["op"] == op]


def converted(plan: Any) -> int:
    return sum(s["op"] == "convert" for s in plan.steps)


class Chain:
    """Convolutions of few channels, one of them with an implementation asked for by name."""

    def __init__(
        self, depth: int, hints: dict[int, str], n: int = 64, channels: int = 4, size: int = 16
    ) -> None:
        self.depth, self.hints, self.shape = depth, hints, (n, channels, size, size)

    def __call__(self, t: Tape) -> list[Var]:
        x, c = t.leaf(normal(*self.shape), True), self.shape[1]
        for i in range(self.depth):
            w = t.leaf(normal(c, c, 3, 3, seed=i + 1) / 6)
            x = t.function("tanh", t.conv(x, w, None, self.hints.get(i, ""), padding=[1] * 4))
        return [x]


@pytest.mark.parametrize("isa", _core.available_isas())
@pytest.mark.parametrize("where", [0, 2, 4])
def test_one_convolution_does_not_drag_its_neighbours_along(where: int, isa: str) -> None:
    _core.select_isa(isa)

    def planned(hints: dict[int, str]) -> _core.Plan:
        tape = Tape(_core.Graph())
        (y,) = Chain(5, hints)(tape)
        return _core.Plan(tape.graph, [y.id], "auto")

    free = planned({})
    if layouts_of(free) != ["interleaved"] * 5:
        assert isa == "scalar", f"a network of four channels is not interleaved: {layouts_of(free)}"
        return
    plan = planned({where: "direct"})
    assert layouts_of(plan) == ["nhwc" if i == where else "interleaved" for i in range(5)]
    used = [s["implementation"].split(":")[1] for s in plan.steps if s["op"] == "conv2d"]
    assert used == ["direct" if i == where else "interleaved" for i in range(5)]
    assert converted(plan) <= converted(free) + 2


def test_what_is_asked_for_by_name_is_done_and_right() -> None:
    small = dict(n=17, channels=3, size=6)
    for hints in ({}, {1: "direct"}, {0: "interleaved"}, {0: "direct", 1: "interleaved", 2: "direct"}):
        plans = check(Chain(3, hints, **small), layouts=("auto",), threads=(1, 3))
        for forward, training in plans.values():
            for plan in (forward, training):
                used = [s["implementation"].split(":")[1] for s in plan.steps if s["op"] == "conv2d"]
                assert all(used[i] == name for i, name in hints.items())


@pytest.mark.parametrize("names", itertools.product(("direct", "interleaved"), repeat=3), ids="-".join)
@pytest.mark.parametrize("layout", [*LAYOUTS, "auto"])
def test_one_layout_after_the_other_has_a_plan(names: tuple[str, ...], layout: str) -> None:
    """What a forced layout cannot have stands in the other one, with conversions between."""
    x, ws = normal(17, 3, 6, 6), [normal(3, 3, 3, 3, seed=i) / 6 for i in range(3)]

    def build(g: _core.Graph, ids: list[int], named: bool = True) -> list[int]:
        y, *weights = ids
        for w, name in zip(weights, names, strict=True):
            attrs = {"padding": [1] * 4, **({"implementation": name} if named else {})}
            y = g.record("tanh", [g.record("conv2d", [y, w, None], attrs)[0]], {})[0]
        return [y, *g.backward(y, y, ids)]

    got, plan = run_graph(build, [x], layout, [w.copy() for w in ws])
    want, _ = run_graph(lambda g, ids: build(g, ids, False), [x], "nhwc", [w.copy() for w in ws])
    for a, b in zip(got, want, strict=True):
        assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b)
    assert layouts_of(plan) == ["nhwc" if name == "direct" else name for name in names]


class Branched(nn.Module):
    """A wide branch of few pixels and a narrow one of many, which meet as rows."""

    def __init__(self, wide: int = 128, narrow: int = 3) -> None:
        super().__init__()
        self.narrow = nn.Sequential(
            nn.Conv2d(3, narrow, 5, padding=2), nn.Tanh(), nn.Conv2d(narrow, narrow, 5, padding=2), nn.Tanh(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(narrow, 10),
        )  # fmt: skip
        self.wide = nn.Sequential(
            nn.MaxPool2d(4), nn.Conv2d(3, wide, 3, padding=1), nn.Tanh(),
            nn.Conv2d(wide, wide, 3, padding=1), nn.Tanh(),
            nn.Conv2d(wide, wide, 3, padding=1), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(wide, 10),
        )  # fmt: skip

    def forward(self, x: Any) -> Any:
        return self.wide(x) + self.narrow(x)


@pytest.mark.parametrize("isa", [isa for isa in _core.available_isas() if isa != "scalar"])
def test_branches_are_placed_each_for_itself(isa: str) -> None:
    _core.select_isa(isa)
    fastcnn.manual_seed(0)
    net, x = Branched(), normal(64, 3, 24, 24)
    for training in (True, False):
        plan = net.train(training).plan(x.shape)
        placed = {s["layer"]: s["layout"] for s in plan.steps if s["op"] == "conv2d"}
        assert {v for k, v in placed.items() if k.startswith("narrow")} == {"interleaved"}, placed
        assert {v for k, v in placed.items() if k.startswith("wide.3") or k.startswith("wide.5")} == {
            "nhwc"
        }, placed
    results = [Inference(net.eval(), [x.shape], layout).forward([x])[0] for layout in ("auto", *LAYOUTS)]
    for y in results[1:]:
        np.testing.assert_allclose(results[0], y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_forced_layout_is_kept(layout: str) -> None:
    fastcnn.manual_seed(0)
    net, shape = Branched(24, 5), (16, 3, 12, 12)
    for plan in (ForwardBackward(net, [shape], layout).plan, Inference(net.eval(), [shape], layout).plan):
        for op in ("conv2d", "conv2d_backward_data", "adaptive_avg_pool2d", "max_pool2d"):
            assert set(layouts_of(plan, op)) <= {layout}


def test_a_gradient_stands_where_its_forward_step_does() -> None:
    fastcnn.manual_seed(0)
    net = Branched()
    plan = ForwardBackward(net, [(64, 3, 24, 24)], "auto").plan
    placed = {s["layer"]: s["layout"] for s in plan.steps if s["op"] == "conv2d"}
    backward = {s["layer"]: s["layout"] for s in plan.steps if s["op"] == "conv2d_backward_data"}
    assert backward and all(placed[k] == v for k, v in backward.items())


@pytest.mark.parametrize("layout", [*LAYOUTS, "auto"])
def test_what_auto_chooses_is_predicted_to_be_no_slower_than_either(layout: str) -> None:
    """The cut is exact: on a chain without segments its price is the least of all labellings."""
    fastcnn.manual_seed(0)
    for net, shape in ((Branched(), (64, 3, 24, 24)), (Branched(16, 3), (5, 3, 24, 24))):
        cost = lambda layout, net=net, shape=shape: sum(  # noqa: E731
            s["predicted"] for s in Inference(net.eval(), [shape], layout).plan.steps
        )
        assert cost("auto") <= 1.05 * cost(layout)


def test_every_step_that_works_has_a_price() -> None:
    fastcnn.manual_seed(0)
    for name, shape in (("lenet5", (32, 1, 28, 28)), ("resnet20_cifar", (8, 3, 32, 32))):
        net = fastcnn.models.create(name)
        step = TrainingStep(
            net, fastcnn.optim.SGD(net.parameters(), lr=0.1, momentum=0.9), nn.CrossEntropyLoss()
        )
        plans = [step.training_plan(shape), net.plan(shape), net.eval().plan(shape)]
        plans += [net.plan(shape, layout=layout) for layout in LAYOUTS]
        for plan in plans:
            for s in plan.steps:
                assert np.isfinite(s["predicted"]) and s["predicted"] >= 0
                assert s["predicted"] > 0 or (s["flops"] == 0 and s["bytes"] == 0), s
            assert f"{plan.steps[0]['predicted'] * 1e6:.1f}" in plan.describe()


def test_prices_grow_with_the_work() -> None:
    def predicted(n: int, channels: int, threads: int = 1) -> float:
        _core.set_num_threads(threads)
        net = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1)).eval()
        return sum(s["predicted"] for s in net.plan((n, channels, 16, 16), layout="nhwc").steps)

    assert predicted(64, 16) < predicted(128, 16) < predicted(128, 32)
    assert predicted(128, 32, threads=2) < predicted(128, 32)


def test_an_empty_batch_has_a_plan_in_every_layout() -> None:
    net = Branched(8, 3).eval()
    for layout in (*LAYOUTS, "auto"):
        assert Inference(net, [(0, 3, 12, 12)], layout).forward([np.zeros((0, 3, 12, 12), np.float32)])[
            0
        ].shape == (0, 10)


def test_an_unknown_layout_is_named() -> None:
    with pytest.raises(ValueError, match="expected auto, nhwc or interleaved, got 'nchw'"):
        nn.ReLU().plan((1, 2, 3, 4), layout="nchw")
