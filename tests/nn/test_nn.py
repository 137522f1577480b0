"""Modules: members, modes, state, gradients by layer, and what they say when something is wrong."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn
from fastcnn import functional, nn


def test_parameters_in_pytorch_order_and_number() -> None:
    assert fastcnn.models.create("lenet5").parameter_count() == 61_706
    model = fastcnn.models.create("resnet20_cifar")
    assert model.parameter_count() == 269_722
    names = [k for k, _ in model.named_parameters()]
    assert names[:3] == ["conv1.weight", "bn1.weight", "bn1.bias"] and names[-2:] == [
        "linear.weight",
        "linear.bias",
    ]
    assert ("layer2.0.conv1", nn.Conv2d) in [(k, type(m)) for k, m in model.named_modules()]


def test_state_dict_keys_equal_pytorch() -> None:
    pytest.importorskip("torch")
    from fastcnn.bench import peers

    for name, (build, _) in peers.NETS.items():
        theirs = {k: tuple(v.shape) for k, v in build().state_dict().items()}
        assert {k: v.shape for k, v in fastcnn.models.create(name).state_dict().items()} == theirs


def test_load_state_dict_lists_every_problem_and_changes_nothing() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(3, 4))
    before = model.state_dict()
    bad = {**before, "0.weight": np.ones((2, 1, 5, 5)), "extra": np.ones(1)}
    del bad["1.bias"]
    with pytest.raises(ValueError) as error:
        model.load_state_dict(bad)
    for part in ("missing: 1.bias", "unexpected: extra", r"0.weight (expected 2x1x3x3, got 2x1x5x5)"):
        assert part in str(error.value)
    for k, v in model.state_dict().items():
        np.testing.assert_array_equal(v, before[k])
    model.load_state_dict({f"module.{k}": v + 1 for k, v in before.items()})
    np.testing.assert_array_equal(model[0].bias.data, before["0.bias"] + 1)


def test_train_and_eval_reach_all_parts() -> None:
    model = fastcnn.models.create("resnet20_cifar")
    assert all(m.training for m in model.modules())
    model.eval()
    assert not any(m.training for m in model.modules())
    x = np.random.default_rng(0).standard_normal((4, 3, 32, 32)).astype(np.float32)
    before = model.bn1.running_mean.data.copy()
    model(x)
    np.testing.assert_array_equal(model.bn1.running_mean.data, before)
    model.train()(x)
    assert not np.array_equal(model.bn1.running_mean.data, before)
    assert model.bn1.num_batches_tracked.data == 1


def test_layers_match_pytorch_one_by_one() -> None:
    torch = pytest.importorskip("torch")
    t = torch.nn
    pairs = [
        (nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), t.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)),
        (nn.MaxPool2d(3, 2, 1), t.MaxPool2d(3, 2, 1)),
        (nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False), t.AvgPool2d(3, 2, 1, True, False)),
        (nn.AdaptiveAvgPool2d((2, 3)), t.AdaptiveAvgPool2d((2, 3))),
        (nn.AdaptiveAvgPool2d(1), t.AdaptiveAvgPool2d(1)),
        (nn.BatchNorm2d(4), t.BatchNorm2d(4)),
        (nn.ReLU(), t.ReLU()),
        (nn.Tanh(), t.Tanh()),
        (nn.Sigmoid(), t.Sigmoid()),
        (nn.LeakyReLU(), t.LeakyReLU()),
        (nn.LeakyReLU(0.3), t.LeakyReLU(0.3)),
        (nn.SiLU(), t.SiLU()),
        (nn.Flatten(), t.Flatten()),
        (nn.Linear(9, 5), t.Linear(9, 5)),
    ]
    rng = np.random.default_rng(0)
    for ours, theirs in pairs:
        x = rng.standard_normal((5, 9) if isinstance(ours, nn.Linear) else (5, 4, 9, 7)).astype(np.float32)
        theirs.load_state_dict({k: torch.from_numpy(v) for k, v in ours.state_dict().items()})
        tx = torch.from_numpy(x).requires_grad_()
        ty = theirs(tx)
        y = ours(x)
        np.testing.assert_allclose(y, ty.detach().numpy(), rtol=1e-5, atol=2e-6, err_msg=repr(ours))
        dy = rng.standard_normal(y.shape).astype(np.float32)
        ty.backward(torch.from_numpy(dy))
        np.testing.assert_allclose(
            ours.backward(dy), tx.grad.numpy(), rtol=1e-4, atol=5e-6, err_msg=repr(ours)
        )
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            np.testing.assert_allclose(p.grad, q.grad.numpy(), rtol=1e-4, atol=2e-5, err_msg=repr(ours))


def test_custom_forward_with_branches_and_shared_layers() -> None:
    torch = pytest.importorskip("torch")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 3, padding=1)

        def forward(self, x):
            y = self.conv(x)
            z = functional.relu(self.conv(y)) * 0.5
            return functional.flatten(z + y + x)

    net = Net()
    x = np.random.default_rng(1).standard_normal((3, 2, 5, 5)).astype(np.float32)
    w, b = (torch.from_numpy(p.data.copy()).requires_grad_() for p in net.parameters())
    tx = torch.from_numpy(x).requires_grad_()
    ty = torch.nn.functional.conv2d(tx, w, b, padding=1)
    tz = torch.relu(torch.nn.functional.conv2d(ty, w, b, padding=1)) * 0.5
    result = (tz + ty + tx).flatten(1)
    np.testing.assert_allclose(net(x), result.detach().numpy(), rtol=1e-5, atol=1e-6)
    dy = np.random.default_rng(2).standard_normal(result.shape).astype(np.float32)
    result.backward(torch.from_numpy(dy))
    np.testing.assert_allclose(net.backward(dy), tx.grad.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(net.conv.weight.grad, w.grad.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(net.conv.bias.grad, b.grad.numpy(), rtol=1e-4, atol=1e-5)


def test_forward_must_not_branch_on_data() -> None:
    class Net(nn.Module):
        def forward(self, x):
            return functional.relu(x) if x else x

    with pytest.raises(TypeError, match="must not branch on the data"):
        Net()(np.zeros((1, 1, 2, 2), np.float32))


def test_gradients_add_up() -> None:
    layer = nn.Linear(3, 2)
    x = np.ones((4, 3), np.float32)
    for _ in range(2):
        dx = layer.backward(np.ones_like(layer(x)))
    np.testing.assert_array_equal(layer.bias.grad, [8, 8])
    assert dx.shape == x.shape
    layer(x)
    layer.backward(np.ones((4, 2), np.float32), accumulate=False)
    np.testing.assert_array_equal(layer.bias.grad, [4, 4])
    layer.zero_grad()
    assert layer.weight.grad is None


def test_backward_checks_its_argument() -> None:
    layer = nn.Linear(3, 2)
    layer(np.ones((4, 3), np.float32))
    with pytest.raises(ValueError, match="expected the gradient of a result of shape 4x2, got 4x3"):
        layer.backward(np.ones((4, 3), np.float32))
    layer.eval()(np.ones((4, 3), np.float32))
    with pytest.raises(ValueError, match="eval mode keeps nothing"):
        layer.backward(np.ones((4, 2), np.float32))


def test_summary_counts() -> None:
    summary = fastcnn.models.create("lenet5").summary((1, 28, 28))
    assert summary.parameters == 61_706
    assert summary.macs == 28 * 28 * 6 * 25 + 100 * 16 * 150 + 400 * 120 + 120 * 84 + 840
    assert "1x6x28x28" in summary and "61,706" in summary
    assert fastcnn.models.create("resnet20_cifar").summary((3, 32, 32)).macs == 40_551_040


@pytest.mark.parametrize(
    "init", ["default", "he_normal", "he_uniform", "xavier_normal", "xavier_uniform", "he"]
)
def test_initialisation_is_seeded_and_scaled(init: str) -> None:
    fastcnn.manual_seed(5)
    a = nn.Conv2d(32, 64, 3, init=init).weight.data.copy()
    fastcnn.manual_seed(5)
    b = nn.Conv2d(32, 64, 3, init=init).weight.data.copy()
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(b, nn.Conv2d(32, 64, 3, init=init).weight.data)
    fan_in, fan_out = 32 * 9, 64 * 9
    std = {"he": (2 / fan_in) ** 0.5, "xa": (2 / (fan_in + fan_out)) ** 0.5, "de": (1 / (3 * fan_in)) ** 0.5}[
        init[:2]
    ]
    assert a.std() == pytest.approx(std, rel=0.03) and abs(a.mean()) < 0.05 * std


def test_unknown_initialisation() -> None:
    with pytest.raises(ValueError, match=r"expected one of .*he.*got 'hee'"):
        nn.Linear(2, 2, init="hee")


@pytest.mark.parametrize(
    "build,message",
    [
        (lambda: nn.Conv2d(3, 8, 3, groups=2), "divisible by groups=2"),
        (lambda: nn.Conv2d(0, 8, 3), "in_channels"),
        (lambda: nn.Conv2d(3, 8, (3, 3, 3)), "kernel_size"),
        (lambda: nn.MaxPool2d(2, stride=0), "stride"),
        (lambda: nn.Linear(3, -1), "out_features"),
        (lambda: fastcnn.optim.SGD([], lr=0.1), "at least one parameter"),
        (lambda: fastcnn.optim.SGD(nn.Linear(1, 1).parameters(), lr=-1.0), "lr"),
        (lambda: fastcnn.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1, nesterov=True), "nesterov"),
        (lambda: fastcnn.set_num_threads(0), "1 to 4096"),
        (lambda: fastcnn.manual_seed(-1), "seed"),
    ],
)
def test_bad_arguments(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(
    "momentum,nesterov,dampening,decay", [(0, False, 0, 0), (0.9, False, 0.3, 0.01), (0.9, True, 0, 0.1)]
)
def test_sgd_equals_pytorch(momentum: float, nesterov: bool, dampening: float, decay: float) -> None:
    torch = pytest.importorskip("torch")
    options = {
        "lr": 0.1,
        "momentum": momentum,
        "nesterov": nesterov,
        "dampening": dampening,
        "weight_decay": decay,
    }
    rng = np.random.default_rng(0)
    p = nn.Parameter(rng.standard_normal((7, 5)))
    q = torch.nn.Parameter(torch.from_numpy(p.data.copy()))
    ours, theirs = fastcnn.optim.SGD([p], **options), torch.optim.SGD([q], **options)
    for _ in range(4):
        g = rng.standard_normal((7, 5)).astype(np.float32)
        p.grad, q.grad = g, torch.from_numpy(g.copy())
        ours.step()
        theirs.step()
    np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_dlpack_both_ways_without_a_copy() -> None:
    p = nn.Parameter(np.arange(6).reshape(2, 3))
    view = np.from_dlpack(p)
    p.data[0, 0] = 42
    assert view[0, 0] == 42
    array = np.zeros((2, 2), np.float32)
    tensor = fastcnn.from_dlpack(array)
    array[1, 1] = 7
    assert tensor.numpy()[1, 1] == 7 and tensor.shape == (2, 2)
    torch = pytest.importorskip("torch")
    shared = torch.from_dlpack(fastcnn.Tensor(np.ones(3, np.float32)))
    assert shared.tolist() == [1, 1, 1]
    t = torch.ones(4)
    ours = fastcnn.from_dlpack(t)
    t[2] = 5
    assert ours.numpy()[2] == 5


def test_dlpack_of_owners_without_a_read_only_flag() -> None:
    """NumPy marks what they give as read-only."""

    class Unversioned:
        def __init__(self, tensor) -> None:
            self.tensor = tensor

        def __dlpack__(self, stream=None):
            return self.tensor.__dlpack__()

        def __dlpack_device__(self):
            return self.tensor.__dlpack_device__()

    owner = fastcnn.Tensor(np.zeros(3, np.float32))
    fastcnn.from_dlpack(Unversioned(owner)).numpy()[1] = 5
    assert owner.numpy().tolist() == [0, 5, 0]
    closed = np.zeros(3, np.float32)
    closed.flags.writeable = False
    with pytest.raises((ValueError, BufferError)):
        fastcnn.from_dlpack(closed)


def test_tensor_is_aligned_and_checked() -> None:
    for n in (1, 5, 100):
        t = fastcnn.Tensor(np.ones((n, 3), np.int64))
        assert t.numpy().ctypes.data % 64 == 0 and t.numpy().dtype == np.int64
    with pytest.raises(TypeError, match="float64"):
        fastcnn.Tensor(np.ones(3))
    with pytest.raises(AttributeError):
        fastcnn.no_such_thing  # noqa: B018


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".nn.module",
        ".nn.layers",
        ".nn.containers",
        ".nn.init",
        ".nn.loss",
        ".nn.parameter",
        ".optim",
        ".train.schedule",
        ".train.trainer",
        "._info",
        "._torch_names",
        ".functional._arguments",
    ],
)
def test_examples_in_docstrings(name: str) -> None:
    import doctest
    import importlib

    module = importlib.import_module("fastcnn" + name)
    result = doctest.testmod(module, extraglobs={"np": np})
    assert result.failed == 0 and result.attempted > 0
