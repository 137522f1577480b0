"""Updates of a weight between readers of it: each sees the weight of its place, fused or not, in every layout."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from graphs import LAYOUTS, make_plan
from orders import normal

from fastcnn import _core

EVERY_LAYOUT = (*LAYOUTS, "auto")
COUNT = 12


class Program:
    """Calls drawn at random, recorded into a graph and run one after the other on arrays."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng([11, seed])
        self.n, self.c = int(rng.choice([1, 5, 17])), int(rng.choice([2, 4, 16]))
        c = self.c
        # Names of tensors, which calls may update, and of values.
        self.tensors = {
            "w": normal(c, c, 3, 3, seed=seed) / 8, "v": normal(c, c, 1, 1, seed=seed + 1) / 3,
            "b": normal(c, seed=seed + 2), "mean": normal(c, seed=seed + 3), "var": 0.5 + abs(normal(c, seed=seed + 4)),
            "gamma": normal(c, seed=seed + 5), "beta": normal(c, seed=seed + 6),
            "momentum of w": normal(c, c, 3, 3, seed=9),
        }  # fmt: skip
        self.inputs = {"x": normal(self.n, c, 6, 5, seed=seed + 7)}
        self.calls: list[
            tuple[str, list[str | None], dict, list[str]]
        ] = []  # op, operands, attributes, results
        maps = ["x"]
        for i in range(int(rng.integers(6, 16))):
            x, y, new = str(rng.choice(maps[-3:])), str(rng.choice(maps)), f"map {i}"
            kind = rng.choice(
                [
                    "conv",
                    "conv",
                    "conv1",
                    "relu",
                    "tanh",
                    "add",
                    "concat",
                    "norm",
                    "train norm",
                    "sgd",
                    "sgd",
                    "sgd",
                ]
            )
            if kind == "sgd":
                self.update(rng, i)
                continue
            if kind == "train norm":
                self.calls.append(("batch_norm_stats", [x], {}, [f"mean {i}", f"rstd {i}", f"moments {i}"]))
                count = {"count": self.n * 30, "momentum": 0.3}
                self.calls.append(("running_statistics", ["mean", "var", f"moments {i}"], count, []))
                call = ("batch_norm_apply", [x, f"mean {i}", f"rstd {i}", "gamma", "beta"], {})
            elif kind == "concat":
                self.calls.append(("concat", [x, y], {"axis": 1}, [f"joined {i}"]))
                call = ("slice_channels", [f"joined {i}"], {"begin": c // 2, "end": c // 2 + c})
            else:
                call = {
                    "conv": ("conv2d", [x, "w", "b" if rng.random() < 0.5 else None], {"padding": [1] * 4}),
                    "conv1": ("conv2d", [x, "v", None], {}),
                    "relu": ("relu", [x], {}),
                    "tanh": ("tanh", [x], {}),
                    "add": ("add", [x, y], {}),
                    "norm": ("batch_norm_inference", [x, "mean", "var", "gamma", "beta"], {"eps": 0.1}),
                }[str(kind)]
            self.calls.append((*call, [new]))
            maps.append(new)
        self.outputs = [
            maps[-1],
            *{str(rng.choice(maps[1:])) for _ in range(2) if len(maps) > 1} - {maps[-1]},
        ]

    def update(self, rng: np.random.Generator, i: int) -> None:
        name = str(rng.choice(["w", "w", "v", "b", "gamma", "beta"]))
        shape = self.tensors[name].shape
        self.tensors[f"gradient {i}"] = normal(*shape, seed=100 + i)
        momentum = "momentum of w" if name == "w" and rng.random() < 0.5 else None
        self.tensors[f"hyper {i}"] = np.float32([rng.uniform(0.05, 0.3), 0.9, 0, 0, 0, rng.integers(0, 2)])
        self.calls.append(("sgd", [name, f"gradient {i}", momentum, f"hyper {i}"], {}, []))

    def in_order(self, layout: str) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
        tensors = {k: v.copy() for k, v in self.tensors.items()}
        held = {**self.inputs, **tensors}
        for op, operands, attrs, results in self.calls:
            made = _core.run(op, [None if k is None else held[k] for k in operands], attrs, layout)
            held.update(zip(results, made, strict=bool(results)))
        return [held[k] for k in self.outputs], tensors

    def planned(self, layout: str) -> tuple[_core.Plan, dict[str, _core.Tensor]]:
        g = _core.Graph()
        ids = {k: g.input(a.shape, "float32", True, k) for k, a in self.inputs.items()}
        tensors = {k: _core.Tensor(a.copy()) for k, a in self.tensors.items()}
        ids.update({k: g.tensor(t, k) for k, t in tensors.items()})
        for op, operands, attrs, results in self.calls:
            made = g.record(op, [None if k is None else ids[k] for k in operands], attrs)
            ids.update(zip(results, made, strict=bool(results)))
        return make_plan(g, [ids[k] for k in self.outputs], layout), tensors

    def run(self, plan: _core.Plan) -> list[np.ndarray]:
        got = plan.run(dict(enumerate(self.inputs.values())))
        return [got[i] for i in sorted(got)]


def near(got: np.ndarray, want: np.ndarray, where: str) -> None:
    scale = max(float(np.linalg.norm(want)), 1.0)
    assert np.linalg.norm(got - want) <= 2e-5 * scale, (
        f"{where}: off by {np.linalg.norm(got - want) / scale:.1e}"
    )


@pytest.mark.parametrize("part", range(4))
def test_a_plan_equals_its_ops_one_after_the_other(part: int) -> None:
    fused = 0
    for seed in range(part * COUNT, (part + 1) * COUNT):
        program = Program(seed)
        for isa in _core.available_isas():
            _core.select_isa(isa)
            want, state = program.in_order("auto")
            for layout in EVERY_LAYOUT:
                plan, after = program.planned(layout)
                got = program.run(plan)
                where = f"program {seed} {isa} {layout}"
                for k, (a, b) in enumerate(zip(got, want, strict=True)):
                    near(a, b, f"{where}: {program.outputs[k]}")
                for name, b in state.items():
                    near(after[name].numpy(), b, f"{where}: {name} afterwards")
                fused += sum(bool(s["fused"]) for s in plan.steps)
    assert fused, "nothing was fused: the programs test too little"


@pytest.mark.parametrize("layout", EVERY_LAYOUT)
def test_a_plan_that_updates_runs_on_from_where_it_was(layout: str) -> None:
    """What a run packed or folded is made anew for the next one, which starts with the updated weights."""
    for seed in range(6):
        program = Program(seed + 900)
        plan, _ = program.planned(layout)
        for run in range(3):
            want, state = program.in_order("auto")
            for k, (a, b) in enumerate(zip(program.run(plan), want, strict=True)):
                near(a, b, f"program {seed + 900}, run {run}: {program.outputs[k]}")
            program.tensors = state


HYPER = np.float32([1, 0, 0, 0, 0, 1])


def reads(op: str, x: np.ndarray, w: np.ndarray) -> tuple[Callable, np.ndarray]:
    """A reader of w, and its result in float64."""
    record = {
        "conv2d": lambda g, x, w: g.record("conv2d", [x, w, None], {})[0],
        "scale": lambda g, x, w: g.record("scale", [x, w], {})[0],
    }[op]
    if op == "scale":
        return record, x * w.astype(np.float64)
    return record, np.einsum("nchw,oc->nohw", x.astype(np.float64), w[:, :, 0, 0])


@pytest.mark.parametrize("layout", EVERY_LAYOUT)
@pytest.mark.parametrize("op", ["conv2d", "scale"])
@pytest.mark.parametrize("updates", [1, 2, 3])
def test_readers_between_updates(updates: int, op: str, layout: str) -> None:
    """w, w - g, w - 2g, ...: one reader for each, a function behind it, all of them added up."""
    x = normal(5, 4, 6, 5)
    w = np.float32([2]) if op == "scale" else normal(4, 4, 1, 1, seed=1)
    gradient = np.full_like(w, 0.25)
    g = _core.Graph()
    image, weight = g.input(x.shape), g.tensor(_core.Tensor(w))
    gradient_id, hyper = g.tensor(_core.Tensor(gradient)), g.tensor(_core.Tensor(HYPER))
    parts, want = [], np.zeros(x.shape)
    for k in range(updates + 1):
        record, value = reads(op, x, w - np.float32(k) * gradient)
        parts.append(g.record("tanh", [record(g, image, weight)], {})[0])
        want = want + np.tanh(value)
        if k < updates:
            g.record("sgd", [weight, gradient_id, None, hyper], {})
    total = g.record("add", parts, {})[0]
    (got,) = make_plan(g, [total], layout).run({0: x}).values()
    near(got, want, "sum")


@pytest.mark.parametrize("layout", EVERY_LAYOUT)
def test_the_same_memory_under_two_names(layout: str) -> None:
    """Two values of a graph that are one tensor: an update of one is seen by readers of the other."""
    x, w = normal(5, 4, 6, 5), normal(4, 4, 1, 1, seed=1)
    g, held = _core.Graph(), _core.Tensor(w)
    image, one, two = g.input(x.shape), g.tensor(held, "one"), g.tensor(held, "two")
    gradient, hyper = g.tensor(_core.Tensor(np.full_like(w, 0.5))), g.tensor(_core.Tensor(HYPER))
    first = g.record("conv2d", [image, two, None], {})[0]
    g.record("sgd", [one, gradient, None, hyper], {})
    second = g.record("relu", [g.record("conv2d", [image, two, None], {})[0]], {})[0]
    got = make_plan(g, [first, second], layout).run({0: x})
    near(got[0], reads("conv2d", x, w)[1], "before")
    near(got[1], np.maximum(reads("conv2d", x, w - 0.5)[1], 0), "after")


@pytest.mark.parametrize("layout", EVERY_LAYOUT)
@pytest.mark.parametrize("first", ["reader", "update"])
def test_images_that_are_updated(first: str, layout: str) -> None:
    """A tensor that stands among images takes their layout anew for each reader, in its place among the updates."""
    x, w = normal(5, 4, 6, 5), normal(5, 4, 6, 5, seed=1)
    g = _core.Graph()
    image, weight = g.input(x.shape), g.tensor(_core.Tensor(w))
    gradient, hyper = g.tensor(_core.Tensor(np.full_like(w, 0.5))), g.tensor(_core.Tensor(HYPER))
    outputs = []
    for turn in range(6):
        if (turn % 2 == 0) == (first == "update"):
            g.record("sgd", [weight, gradient, None, hyper], {})
        else:
            outputs += g.record("tanh", g.record("add", [image, weight], {}), {})
    got = make_plan(g, outputs, layout).run({0: x})
    for k in range(3):
        want = np.tanh(x + w - np.float32(0.5) * (k + (first == "update")))
        near(got[k], want, f"reader {k}")


@pytest.mark.parametrize("layout", EVERY_LAYOUT)
@pytest.mark.parametrize("place", ["before both", "between", "after both"])
@pytest.mark.parametrize("name", ["w", "b", "mean", "var", "gamma", "beta"])
@pytest.mark.parametrize("gradient", ["at hand", "computed"])
def test_a_folded_norm_reads_what_its_calls_read(gradient: str, name: str, place: str, layout: str) -> None:
    """A convolution and the norm behind it are one step only where none of what they read is updated beside them,
    by a gradient that is there at once or that takes steps of its own."""
    program = Program(3)
    c, before = program.c, {"before both": 0, "between": 1, "after both": 2}[place]
    program.tensors["gradient"] = np.full_like(program.tensors[name], -0.5)
    program.tensors["hyper"] = HYPER
    norm = ("batch_norm_inference", ["conv", "mean", "var", "gamma", "beta"], {"eps": 0.1}, ["y"])
    program.calls = [("conv2d", ["x", "w", "b"], {"padding": [1] * 4}, ["conv"]), norm]
    program.calls.insert(before, ("sgd", [name, "gradient", None, "hyper"], {}, []))
    if gradient == "computed":  # in the same section, from what is updated itself
        program.tensors["step"] = np.full_like(program.tensors[name], 0.25)
        program.calls[before : before + 1] = [
            ("sgd", ["gradient", "step", None, "hyper"], {}, []),
            ("tanh", ["gradient"], {}, ["bent"]),
            ("sgd", [name, "bent", None, "hyper"], {}, []),
        ]
    program.outputs = ["y"]
    assert program.tensors["mean"].shape == (c,)
    plan, after = program.planned(layout)
    for run in range(2):
        want, state = program.in_order("auto")
        near(program.run(plan)[0], want[0], f"run {run}")
        near(after[name].numpy(), state[name], f"run {run}: {name}")
        program.tensors = state


@pytest.mark.parametrize("layout", EVERY_LAYOUT)
@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize(
    "op", ["flatten", "concat", "concat twice", "slice_channels", "convert", "unflatten"]
)
def test_what_is_made_of_a_weight_is_of_its_place(op: str, place: str, layout: str) -> None:
    """Views, cuts and joins of a weight that is updated before or after them by a gradient that the plan computes."""
    w, gradient = normal(4, 6), normal(4, 6, seed=1)
    whole = {"flatten": w.reshape(4, 2, 3), "slice_channels": w, "convert": w}.get(op, w)
    held, g = _core.Tensor(np.ascontiguousarray(whole)), _core.Graph()
    weight, hyper = g.tensor(held), g.tensor(_core.Tensor(HYPER))
    scaled = g.record("tanh", [g.tensor(_core.Tensor(gradient.reshape(whole.shape)))], {})[0]
    attrs = {"slice_channels": {"begin": 1, "end": 5}, "unflatten": {"shape": [2, 3]}}.get(op, {})

    def made() -> int:
        return g.record(op.split()[0], [weight] * (2 if op == "concat twice" else 1), attrs)[0]

    early = made() if place == "before" else None
    g.record("sgd", [weight, scaled, None, hyper], {})
    y = g.record("tanh", [made() if early is None else early], {})[0]
    got = make_plan(g, [y], layout).run({})[0]
    new = w - np.tanh(gradient)
    near(held.numpy(), new.reshape(whole.shape), "the weight")
    read = w if place == "before" else new
    want = {"concat twice": np.concatenate([read, read], 1), "slice_channels": read[:, 1:5]}.get(op, read)
    near(got.reshape(want.shape), np.tanh(want), op)


@pytest.mark.parametrize("layout", EVERY_LAYOUT)
def test_a_weight_among_images_is_that_of_its_place(layout: str) -> None:
    """Joined to images after an update whose gradient is the sum over as many images: the copy of the weight that the
    join needs could be made slice by slice with the steps before the update."""
    n = 17
    x, w, dy, beside = (
        normal(n, 4, 5, 5),
        normal(n, 4, 3, 3, seed=1),
        normal(n, n, 3, 3, seed=2),
        normal(n, 2, 3, 3),
    )
    g, held = _core.Graph(), _core.Tensor(w)
    image, gradient, maps = g.input(x.shape), g.input(dy.shape), g.input(beside.shape)
    weight, hyper = g.tensor(held), g.tensor(_core.Tensor(HYPER))
    before = g.record("tanh", [g.record("concat", [weight, maps], {})[0]], {})[0]
    y = g.record("tanh", [g.record("conv2d", [image, weight, None], {})[0]], {})[0]
    (dw,) = g.backward(y, gradient, [weight])
    g.record("sgd", [weight, dw, None, hyper], {})
    after = g.record("tanh", [g.record("concat", [weight, maps], {})[0]], {})[0]
    got = make_plan(g, [before, y, after], layout).run({0: x, 1: dy, 2: beside})
    new = held.numpy().copy()
    assert abs(new - w).max() > 1
    near(got[0], np.tanh(np.concatenate([w, beside], 1)), "before")
    near(got[2], np.tanh(np.concatenate([new, beside], 1)), "after")
