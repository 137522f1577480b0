"""Joining and cutting channels moves nothing where everybody concerned takes slices, and is right everywhere else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from tape import Tape, Var, check

import fastcnn
import fastcnn.functional as F
from fastcnn import _core, nn
from fastcnn.nn.engine import ForwardBackward, Inference, TrainingStep

LAYOUTS = ("nhwc", "interleaved", "auto")
SAME = {"padding": [1, 1, 1, 1]}


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def moves(plan: Any, section: int | None = None) -> list[str]:
    """Steps that do nothing but move channels. Copies of whole values are not among them: a plan's outputs are some."""
    named = ((s, *s["implementation"].split(":")[:2]) for s in plan.steps)
    return [
        f"{s['implementation']} of {s['layer']}, {s['output']}"
        for s, op, name in named
        if (op in ("concat", "slice_channels", "pad_channels") or (op, name) == ("convert", "slice"))
        and section in (None, s["section"])
    ]


def adds(plan: Any) -> int:
    return sum((s["op"] == "add") + s["fused"].split("+").count("add") for s in plan.steps)


# ---- DenseNet chains


class DenseLayer(nn.Module):
    """Huang et al. 2017: norm, function, 1x1 (where there is a bottleneck), norm, function, 3x3."""

    def __init__(self, inputs: int, growth: int, bottleneck: int, function: str) -> None:
        super().__init__()
        self.function = getattr(F, function)
        self.norm1, self.norm2 = nn.BatchNorm2d(inputs), None
        self.conv1 = None
        if bottleneck:
            self.conv1, self.norm2 = nn.Conv2d(inputs, bottleneck, 1, bias=False), nn.BatchNorm2d(bottleneck)
        self.conv2 = nn.Conv2d(bottleneck or inputs, growth, 3, padding=1, bias=False)

    def forward(self, x: Any) -> Any:
        x = self.function(self.norm1(x))
        if self.conv1 is not None:
            x = self.function(self.norm2(self.conv1(x)))
        return self.conv2(x)


class DenseNet(nn.Module):
    """join: "nested" joins what was joined with what is new, "flat" all maps so far."""

    def __init__(
        self,
        depth: int,
        join: str,
        inputs: int = 5,
        growth: int = 3,
        bottleneck: int = 0,
        function: str = "tanh",
    ) -> None:
        super().__init__()
        self.join, self.name = join, function
        self.stem = nn.Conv2d(2, inputs, 3, padding=1)
        widths = [inputs + growth * i for i in range(depth + 1)]
        self.layers = nn.Sequential(*(DenseLayer(c, growth, bottleneck, function) for c in widths[:-1]))
        self.head = nn.Linear(widths[-1], 4)

    def forward(self, x: Any) -> Any:
        maps = [self.stem(x)]
        for layer in self.layers:
            maps.append(layer(maps[0] if len(maps) == 1 else F.concat(maps)))
            if self.join == "nested":
                maps = [F.concat(maps)]
        return self.head(F.flatten(F.global_avg_pool2d(maps[0] if len(maps) == 1 else F.concat(maps))))


def dense(depth: int, join: str, **options: Any) -> DenseNet:
    fastcnn.manual_seed(0)
    net = DenseNet(depth, join, **options)
    for i, p in enumerate(net.parameters()):
        if p.data.ndim == 1:  # norms that differ from channel to channel
            p.data[...] += 0.3 * normal(*p.shape, seed=i)
    return net


def dense_tape(net: DenseNet, x: np.ndarray) -> tuple[Tape, Var, dict[int, Var]]:
    """The same network in float64; leaves by the id of their parameter."""
    tape, leaves = Tape(), {}

    def leaf(p: nn.Parameter | None) -> Var | None:
        return None if p is None else leaves.setdefault(id(p), tape.leaf(p.data.copy()))

    def conv(m: nn.Conv2d, x: Var) -> Var:
        return tape.conv(x, leaf(m.weight), leaf(m.bias), padding=[m.weight.shape[2] // 2] * 4)

    def norm(m: nn.BatchNorm2d, x: Var) -> Var:
        return tape.function(net.name, tape.norm(x, leaf(m.weight), leaf(m.bias), 1e-5))

    image = leaves[0] = tape.leaf(x, True)
    maps = conv(net.stem, image)
    for layer in net.layers:
        y = norm(layer.norm1, maps)
        if layer.conv1 is not None:
            y = norm(layer.norm2, conv(layer.conv1, y))
        maps = tape.concat([maps, conv(layer.conv2, y)])
    pooled = tape.flatten(tape.avg_pool(maps))
    return tape, tape.linear(pooled, leaf(net.head.weight), leaf(net.head.bias)), leaves


def relative(got: np.ndarray, want: np.ndarray) -> float:
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))


@pytest.mark.parametrize("join", ["nested", "flat"])
@pytest.mark.parametrize("depth, growth, bottleneck", [(6, 3, 0), (6, 8, 16), (12, 5, 7), (48, 2, 0)])
def test_dense_chains_equal_the_reference(depth: int, growth: int, bottleneck: int, join: str) -> None:
    x = normal(9, 2, 5, 6)
    net = dense(depth, join, growth=growth, bottleneck=bottleneck)
    tape, want, leaves = dense_tape(net, x)
    dy = normal(*want.array.shape)
    tape.differentiate(want, dy)
    state = net.state_dict()
    for isa in _core.available_isas():
        _core.select_isa(isa)
        for layout in LAYOUTS:
            bits = set()
            for threads in (1, 2, 3):
                _core.set_num_threads(threads)
                net.load_state_dict(state)
                net.zero_grad()
                both = ForwardBackward(net.train(), [x.shape], layout)
                y, run = both.forward([x])
                (dx,) = both.backward(run, dy)
                where = f"{isa} {layout} {threads} threads"
                assert relative(y, want.array) < 1e-5, where
                assert relative(dx, leaves[0].grad) < 1e-4, where
                for name, p in net.named_parameters():
                    scale = np.linalg.norm(leaves[id(p)].grad) + 1e-3 * np.linalg.norm(dy)
                    assert np.linalg.norm(p.grad - leaves[id(p)].grad) < 1e-4 * scale, f"{where}: {name}"
                bits.add(b"".join(a.tobytes() for a in (y, dx, *[p.grad for p in net.parameters()])))
            assert len(bits) == 1, f"{isa} {layout}: threads change the result"
            assert not moves(both.plan, 0), moves(both.plan, 0)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("join", ["nested", "flat"])
@pytest.mark.parametrize("depth, growth, bottleneck", [(6, 3, 0), (12, 8, 32), (48, 4, 16)])
@pytest.mark.parametrize("n", [8, 19])
def test_dense_chains_copy_nothing(
    n: int, depth: int, growth: int, bottleneck: int, join: str, layout: str
) -> None:
    net, shape = dense(depth, join, growth=growth, bottleneck=bottleneck, function="relu"), (n, 2, 6, 6)
    step = TrainingStep(net, fastcnn.optim.SGD(net.parameters(), lr=0.1), nn.CrossEntropyLoss(), layout)
    training = step.training_plan(shape)
    whole, alone = ForwardBackward(net, [shape], layout).plan, Inference(net.eval(), [shape], layout).plan
    for plan in (alone, whole, training):
        assert not moves(plan), moves(plan)
    assert adds(alone) == 0
    for plan in (
        whole,
        training,
    ):  # each map but the last ones is read by two: the next norm and the next join
        assert adds(plan) <= depth, [(s["op"], s["fused"]) for s in plan.steps]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("join", ["nested", "flat"])
def test_memory_of_dense_chains_is_linear_in_their_depth(join: str, layout: str) -> None:
    """From 24 to 48 layers it grows as from 12 to 24, per layer; squares would grow twice as fast."""

    def arena(depth: int, training: bool) -> int:
        net = dense(depth, join, inputs=16, growth=8, bottleneck=32, function="relu").train(training)
        if not training:
            return Inference(net, [(16, 2, 12, 12)], layout).plan.arena_bytes
        optimizer = fastcnn.optim.SGD(net.parameters(), lr=0.1)
        step = TrainingStep(net, optimizer, nn.CrossEntropyLoss(), layout)
        return step.training_plan((16, 2, 12, 12)).arena_bytes

    for training in (False, True):
        first, second, third = (arena(depth, training) for depth in (12, 24, 48))
        early, late = (second - first) / 12, (third - second) / 24
        assert late <= 1.25 * early, f"{first} {second} {third}: {early:.0f} bytes a layer, then {late:.0f}"


# ---- single joins and cuts


Pattern = Callable[[Tape, Callable[..., Var], Var], Sequence[Var]]  # (tape, leaf(*shape), x) -> outputs


def branch(t: Tape, leaf: Callable[..., Var], x: Var, channels: int, kernel: int = 1) -> Var:
    weight = leaf(channels, x.channels, kernel, kernel, scale=1 / np.sqrt(x.channels * kernel**2))
    return t.conv(x, weight, leaf(channels), padding=[kernel // 2] * 4)


def inception(t: Tape, leaf: Callable[..., Var], x: Var) -> Var:
    """Szegedy et al. 2015: 1x1, 1x1 then 3x3, 1x1 then 5x5, pooled then 1x1."""
    b = lambda x, c, k=1: t.function("tanh", branch(t, leaf, x, c, k))  # noqa: E731
    pooled = t.avg_pool(x, kernel_size=[3, 3], stride=[1, 1], padding=[1, 1, 1, 1])
    return t.concat([b(x, 5), b(b(x, 3), 7, 3), b(b(x, 2), 4, 5), b(pooled, 3)])


def linears(t: Tape, leaf: Callable[..., Var], x: Var) -> list[Var]:
    rows = t.flatten(t.avg_pool(x))
    parts = [t.linear(rows, leaf(c, rows.channels), leaf(c)) for c in (3, 8, 1)]
    joined = t.concat(parts)
    return [t.linear(t.function("tanh", t.concat([joined, parts[0]])), leaf(4, 15), leaf(4))]


def branches(count: int) -> Callable[[Tape, Callable[..., Var], Var], list[Var]]:
    return lambda t, leaf, x: [branch(t, leaf, x, 1 + i % 5, 1 + i % 2 * 2) for i in range(count)]


def tail(t: Tape, leaf: Callable[..., Var], x: Var) -> Var:
    return branch(t, leaf, t.function("tanh", x), 4, 3)


def norm(t: Tape, leaf: Callable[..., Var], x: Var) -> Var:
    return t.norm(x, leaf(x.channels), leaf(x.channels))


# By name: the pattern, and how many copies a forward pass may make at most (nhwc, interleaved).
def _joined(t, leaf, x):
    return [tail(t, leaf, t.concat(branches(3)(t, leaf, x)))]


def _part_read_elsewhere(t, leaf, x):
    a, b = branches(2)(t, leaf, x)
    joined = t.concat([a, b])
    return [t.add(tail(t, leaf, joined), tail(t, leaf, a), tail(t, leaf, b))]


def _part_after_a_norm(t, leaf, x):
    a, b = branches(2)(t, leaf, x)
    return [tail(t, leaf, t.concat([norm(t, leaf, a), t.function("tanh", norm(t, leaf, b))]))]


def _part_flattened_too(t, leaf, x):
    """Rows of a matrix have their own memory: the part cannot be a slice."""
    a, b = branches(2)(t, leaf, x)
    rows = t.flatten(b)
    joined = t.flatten(t.avg_pool(tail(t, leaf, t.concat([a, b]))))
    return [t.add(t.linear(rows, leaf(4, rows.channels), leaf(4)), joined)]


def _part_added_to_its_function(t, leaf, x):
    a, b = branch(t, leaf, x, 5, 3), branch(t, leaf, x, 5)
    parts = [t.add(t.function("silu", a), a), t.add(b, t.function("relu", b))]
    return [tail(t, leaf, t.concat([t.avg_pool(a, kernel_size=[1, 1]), *parts]))]


def _part_in_two_joins(t, leaf, x):
    a, b, c = branches(3)(t, leaf, x)
    return [t.add(tail(t, leaf, t.concat([a, b])), tail(t, leaf, t.concat([c, a])))]


def _repeated(t, leaf, x):
    a, b = branches(2)(t, leaf, x)
    return [tail(t, leaf, t.concat([a, b, a]))]


def _part_is_an_output(t, leaf, x):
    a, b = branches(2)(t, leaf, x)
    return [a, tail(t, leaf, t.concat([a, b]))]


def _join_is_an_output(t, leaf, x):
    a, b = branches(2)(t, leaf, x)
    joined = t.concat([a, b])
    return [joined, tail(t, leaf, joined)]


def _join_is_the_only_output(t, leaf, x):
    return [t.concat(branches(3)(t, leaf, x))]


def _join_of_the_input(t, leaf, x):
    return [tail(t, leaf, t.concat([x, branch(t, leaf, x, 5)]))]


def _join_of_two_inputs(t, leaf, x):
    return [tail(t, leaf, t.concat([x, t.leaf(normal(*x.array.shape, seed=9), True), x]))]


def _join_of_a_view(t, leaf, x):
    a = branch(t, leaf, x, 4)
    back = t.unflatten(t.flatten(a), a.array.shape[1:])
    return [tail(t, leaf, t.concat([back, branch(t, leaf, x, 3)]))]


def _flattened_join(t, leaf, x):
    rows = t.flatten(t.concat(branches(3)(t, leaf, x)))
    return [t.linear(rows, leaf(3, rows.channels), leaf(3))]


def _join_of_joins(t, leaf, x):
    a, b, c, d = branches(4)(t, leaf, x)
    inner = t.concat([b, c])
    middle = t.concat([a, inner])
    return [t.add(tail(t, leaf, t.concat([middle, d])), tail(t, leaf, inner))]


def _one_join_twice_in_another(t, leaf, x):
    inner = t.concat(branches(2)(t, leaf, x))
    return [tail(t, leaf, t.concat([inner, inner]))]


def _prefixes_grow(t, leaf, x):
    parts = branches(4)(t, leaf, x)
    joins = [t.concat(parts[:k]) for k in (2, 3, 4)]
    return [t.add(*[tail(t, leaf, j) for j in joins])]


def _a_prefix_joined_later(t, leaf, x):
    """The longer join comes first."""
    parts = branches(3)(t, leaf, x)
    return [t.add(tail(t, leaf, t.concat(parts)), tail(t, leaf, t.concat(parts[:2])))]


def _join_of_one(t, leaf, x):
    return [tail(t, leaf, t.concat([branch(t, leaf, x, 3)]))]


def _halves(t, leaf, x):
    y = branch(t, leaf, x, 7, 3)
    return [t.add(tail(t, leaf, t.slice(y, 0, 3)), tail(t, leaf, t.slice(y, 3, 7)))]


def _slice_of_a_slice(t, leaf, x):
    y = t.slice(branch(t, leaf, x, 23), 2, 19)
    return [t.add(tail(t, leaf, t.slice(y, 5, 12)), tail(t, leaf, y))]


def _slice_of_a_join(t, leaf, x):
    joined = t.concat(branches(3)(t, leaf, x))  # 1, 2, 3 channels
    return [t.add(tail(t, leaf, t.slice(joined, 2, 5)), tail(t, leaf, joined))]


def _slice_into_a_join(t, leaf, x):
    y = branch(t, leaf, x, 9)
    return [tail(t, leaf, t.concat([branch(t, leaf, x, 2), t.slice(y, 3, 8), y]))]


def _slice_into_a_join_of_its_own(t, leaf, x):
    joined = t.concat(branches(3)(t, leaf, x))
    return [tail(t, leaf, t.concat([t.slice(joined, 1, 4), t.function("tanh", joined)]))]


def _slices_swapped(t, leaf, x):
    y = branch(t, leaf, x, 8)
    return [tail(t, leaf, t.concat([t.slice(y, 4, 8), t.slice(y, 0, 4)]))]


def _slice_is_an_output(t, leaf, x):
    y = branch(t, leaf, x, 7)
    cut = t.slice(y, 2, 5)
    return [cut, t.add(tail(t, leaf, cut), tail(t, leaf, y))]


def _slice_of_the_input(t, leaf, x):
    return [t.slice(x, 1, 2), t.add(tail(t, leaf, t.slice(x, 1, 3)), tail(t, leaf, t.slice(x, 0, 2)))]


def _slice_of_everything(t, leaf, x):
    y = branch(t, leaf, x, 5)
    return [tail(t, leaf, t.slice(y, 0, 5))]


def _channels_shuffled(t, leaf, x):
    """Cut in two, one half convolved, joined again: ShuffleNet's block (Ma et al. 2018)."""
    y = branch(t, leaf, x, 10)
    kept, worked = t.slice(y, 0, 5), t.function("tanh", branch(t, leaf, t.slice(y, 5, 10), 5, 3))
    return [tail(t, leaf, t.concat([kept, worked]))]


def _depthwise_and_pools(t, leaf, x):
    joined = t.concat([branch(t, leaf, x, 6), branch(t, leaf, x, 3)])
    deep = t.conv(joined, leaf(9, 1, 3, 3, scale=0.3), None, padding=[1] * 4, groups=9)
    pooled = t.max_pool(t.slice(joined, 2, 7), kernel_size=[2, 2])
    return [t.avg_pool(pooled), t.add(tail(t, leaf, deep), tail(t, leaf, joined))]


def _padded_channels(t, leaf, x):
    joined = t.concat(branches(2)(t, leaf, x))
    return [tail(t, leaf, t.concat([t.pad(joined, 2, 1), t.pad(x, 0, 3)]))]


def _sums_of_slices(t, leaf, x):
    joined = t.concat([branch(t, leaf, x, 4), branch(t, leaf, x, 4), branch(t, leaf, x, 4)])
    parts = [t.slice(joined, 4 * i, 4 * i + 4) for i in range(3)]
    return [t.function("tanh", t.add(*parts)), t.add(t.add(parts[2], parts[0]), parts[1])]


def _squeeze(t, leaf, x):
    """SqueezeNet's block (Iandola et al. 2016) after its like."""
    for _ in range(2):
        s = t.function("tanh", branch(t, leaf, x, 3))
        x = t.concat(
            [t.function("tanh", branch(t, leaf, s, 5)), t.function("tanh", branch(t, leaf, s, 5, 3))]
        )
    return [tail(t, leaf, x)]


PATTERNS: dict[str, tuple[Pattern, int]] = {
    "joined": (_joined, 0),
    "inception": (lambda t, leaf, x: [tail(t, leaf, inception(t, leaf, inception(t, leaf, x)))], 0),
    "squeeze": (_squeeze, 0),
    "part read elsewhere": (_part_read_elsewhere, 0),
    "part after a norm": (_part_after_a_norm, 0),
    "part flattened too": (_part_flattened_too, 3),
    "part added to its function": (_part_added_to_its_function, 0),
    "part in two joins": (_part_in_two_joins, 1),
    "repeated": (_repeated, 1),
    "part is an output": (_part_is_an_output, 0),
    "join is an output": (_join_is_an_output, 0),
    "join is the only output": (_join_is_the_only_output, 0),
    "join of the input": (_join_of_the_input, 1),
    "join of two inputs": (_join_of_two_inputs, 3),
    "join of a view": (_join_of_a_view, 1),
    "flattened join": (_flattened_join, 3),
    "join of joins": (_join_of_joins, 0),
    "one join twice in another": (_one_join_twice_in_another, 1),
    "prefixes grow": (_prefixes_grow, 0),
    "a prefix joined later": (_a_prefix_joined_later, 2),
    "join of one": (_join_of_one, 0),
    "linear outputs": (linears, 1),
    "halves": (_halves, 0),
    "slice of a slice": (_slice_of_a_slice, 0),
    "slice of a join": (_slice_of_a_join, 0),
    "slice into a join": (_slice_into_a_join, 1),
    "slice into a join of its own": (_slice_into_a_join_of_its_own, 1),
    "slices swapped": (_slices_swapped, 2),
    "slice is an output": (_slice_is_an_output, 0),
    "slice of the input": (_slice_of_the_input, 0),
    "slice of everything": (_slice_of_everything, 0),
    "channels shuffled": (_channels_shuffled, 1),
    "depthwise and pools": (_depthwise_and_pools, 0),
    "padded channels": (_padded_channels, 2),
    "sums of slices": (_sums_of_slices, 0),
}


def built(pattern: Pattern, shape: tuple[int, ...]) -> Callable[[Tape], Sequence[Var]]:
    def build(t: Tape) -> Sequence[Var]:
        made = []

        def leaf(*shape: int, scale: float = 1.0) -> Var:
            made.append(shape)
            return t.leaf(np.float32(scale) * normal(*shape, seed=len(made)))

        return pattern(t, leaf, t.leaf(normal(*shape), True))

    return build


@pytest.mark.parametrize("shape", [(5, 3, 6, 5), (17, 3, 4, 4)], ids=str)
@pytest.mark.parametrize("name", PATTERNS)
def test_patterns_equal_the_reference(name: str, shape: tuple[int, ...]) -> None:
    pattern, most = PATTERNS[name]
    for sections in (True, False):
        plans = check(built(pattern, shape), sections=sections, threads=(1, 2, 3) if sections else (2,))
        for (isa, layout), (forward, _) in plans.items():
            assert len(moves(forward)) <= most, f"{isa} {layout}: {moves(forward)}"


@pytest.mark.parametrize("widths", [(16, 16), (15, 17), (1, 31), (8, 40), (3, 4)], ids=str)
@pytest.mark.parametrize("n", [1, 16, 33])
def test_joins_of_any_width(n: int, widths: tuple[int, int]) -> None:
    """Around the width of a vector, on every path of the convolutions that write and read the slices."""

    def pattern(t: Tape, leaf: Callable[..., Var], x: Var) -> list[Var]:
        a, b = branch(t, leaf, x, widths[0], 3), branch(t, leaf, x, widths[1])
        joined = t.concat([t.function("tanh", a), b])
        deep = branch(t, leaf, joined, 16, 3)
        return [t.add(deep, branch(t, leaf, t.slice(joined, 1, sum(widths)), 16, 1))]

    plans = check(built(pattern, (n, 3, 7, 6)), threads=(1, 3))
    assert not any(moves(forward) for forward, _ in plans.values())


@pytest.mark.parametrize("op", ["conv", "linear"])
@pytest.mark.parametrize("name", ["direct", "winograd4x4", "interleaved", "depthwise"])
def test_forced_implementations_write_and_read_slices(name: str, op: str) -> None:
    if op == "linear":
        name = {"direct": "rows", "winograd4x4": "panels"}.get(name, "interleaved")
    taken = 0
    for isa in _core.available_isas():
        _core.select_isa(isa)
        for layout in ("nhwc", "interleaved"):
            taken += forced(op, name, layout)
    assert taken, f"nobody took {name}"


def forced(op: str, name: str, layout: str) -> bool:
    n = 1 if name == "rows" else 17
    x, other = normal(n, 16, 8, 8), normal(n, 5, 8, 8, seed=1)
    groups = 16 if name == "depthwise" else 1
    w, v = normal(16, 16 // groups, 3, 3, seed=2) / 12, normal(21, 1 if groups > 1 else 21, 3, 3, seed=3) / 12
    if op == "linear":
        x, other, w, v = (
            x[:, :, 0, 0].copy(),
            other[:, :, 0, 0].copy(),
            w[:, :, 0, 0].copy(),
            v[:, :, 0, 0].copy(),
        )

    def attrs(groups: int) -> dict[str, Any]:
        own = {"implementation": name}
        return {**own, "groups": groups, "padding": [1] * 4} if op == "conv" else own

    g = _core.Graph()
    ids = [g.input(a.shape, "float32", True, "x") for a in (x, other)] + [
        g.tensor(_core.Tensor(a)) for a in (w, v)
    ]
    full = "conv2d" if op == "conv" else "linear"
    y = g.record(full, [ids[0], ids[2], None], attrs(groups))[0]
    joined = g.record("concat", [g.record("tanh", [ids[1]], {})[0], y], {"axis": 1})[0]
    z = g.record(full, [joined, ids[3], None], attrs(21 if groups > 1 else 1))[0]
    try:
        plan = _core.Plan(g, [z], layout)
    except ValueError as error:
        assert "implementation" in str(error)
        return False
    used = [s["implementation"].split(":")[1] for s in plan.steps if s["op"] == full]
    assert used == [name] * 2
    t = Tape()
    tx, to, tw, tv = (t.leaf(a) for a in (x, other, w, v))
    if op == "conv":
        ty = t.conv(tx, tw, None, padding=[1] * 4, groups=groups)
        want = t.conv(
            t.concat([t.function("tanh", to), ty]), tv, None, padding=[1] * 4, groups=21 if groups > 1 else 1
        )
    else:
        zero = [t.leaf(np.zeros(c, np.float32)) for c in (16, 21)]
        want = t.linear(t.concat([t.function("tanh", to), t.linear(tx, tw, zero[0])]), tv, zero[1])
    got = plan.run({0: x, 1: other})[0]
    assert relative(got, want.array) < 1e-5
    assert op == "linear" or not moves(plan)  # rows of a matrix have their own memory
    return True
