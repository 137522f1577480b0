"""Names that are not there, constructors that can never run, shapes, seeds and switches: what the doors say."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

import fastcnn
from fastcnn import nn

X = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)


# ---- names


@pytest.mark.parametrize(
    "module,name,texts",
    [
        (
            "nn",
            "Dropout",
            [
                "fastcnn.nn has no Dropout (here: against overfitting weight_decay ",
                "layers: AdaptiveAvgPool2d, ",
            ],
        ),
        ("nn", "GELU", ["fastcnn.nn has no GELU; layers: AdaptiveAvgPool2d, ", "losses: CrossEntropyLoss"]),
        ("nn", "Conv1d", ["(here: nn.Conv2d with kernel_size=(1, k) "]),
        ("nn", "MSELoss", ["(here: model.backward(dy) with the gradient "]),
        ("nn", "Conv2D", ["(here: nn.Conv2d)"]),
        ("nn", "Relu", ["(did you mean ReLU?)"]),
        ("nn", "ModuleList", ["(here: nn.Sequential(*layers) or an attribute for each layer)"]),
        ("nn", "relu", ["(it is fastcnn.functional.relu)"]),
        ("nn.init", "xavier_uniform_", ["(here: init='xavier_uniform' of a layer)", "he_normal"]),
        ("functional", "max_pool", ["(did you mean max_pool2d?)", "functions: adaptive_avg_pool2d, "]),
        ("nn.functional", "max_pool", ["(did you mean max_pool2d?)"]),
        ("data", "MNIST", ["(here: fastcnn.data.mnist)"]),
        ("models", "vgg16", ["networks, for create: lenet5, resnet20_cifar"]),
        ("train", "Trainr", ["(did you mean Trainer?)"]),
        ("", "Conv2d", ["fastcnn has no Conv2d (it is fastcnn.nn.Conv2d)"]),
        ("", "no_grad", ["model.eval()"]),
        ("", "compile", ["every model is planned and fused"]),
    ],
)
def test_unknown_names_say_what_there_is(module, name, texts) -> None:
    found = importlib.import_module(f"fastcnn.{module}".rstrip("."))
    with pytest.raises(AttributeError) as error:
        getattr(found, name)
    for text in texts:
        assert text in str(error.value)
    assert not hasattr(found, name) and not hasattr(found, "__wrapped__")


@pytest.mark.parametrize(
    "module", ["", "nn", "nn.init", "functional", "nn.functional", "data", "models", "train"]
)
def test_modules_show_public_names_only(module) -> None:
    found = importlib.import_module(f"fastcnn.{module}".rstrip("."))
    assert set(dir(found)) - {"__version__"} == set(found.__all__)
    assert all(hasattr(found, name) for name in dir(found))


# ---- constructors refuse what can never run


@pytest.mark.parametrize(
    "build,message",
    [
        (lambda: nn.Conv2d(1, 8, 3, padding="SAME"), r"Conv2d: expected padding .*did you mean 'same'\?"),
        (lambda: nn.Conv2d(1, 8, 3, padding="full"), "Conv2d: expected padding 'same' or 'valid'"),
        (lambda: nn.Conv2d(1, 8, 3, padding=(1, 1, 1)), "Conv2d: expected padding of one, two"),
        (lambda: nn.Conv2d(1, 8, 3, padding=-1), "Conv2d: expected padding of at least 0"),
        (lambda: nn.Conv2d(1, 8, 3, padding=None), "Conv2d: expected integers for padding, got None"),
        (lambda: nn.Conv2d(1, 8, 0), "Conv2d: expected kernel_size of at least 1"),
        (lambda: nn.Conv2d(1, 8, True), "Conv2d: expected integers for kernel_size, got True"),
        (lambda: nn.Conv2d(True, 8, 3), "Conv2d: expected integers for in_channels, got True"),
        (lambda: nn.Conv2d(1, 8.0, 3), r"Conv2d: expected integers for out_channels, got 8\.0"),
        (lambda: nn.Linear("3", 4), "Linear: expected integers for in_features, got '3'"),
        (lambda: nn.MaxPool2d(2, padding=2), "MaxPool2d: expected padding smaller than the kernel"),
        (lambda: nn.LeakyReLU(None), "LeakyReLU: expected a number for negative_slope, got None"),
        (lambda: nn.LeakyReLU("0.1"), "LeakyReLU: expected a number for negative_slope, got '0.1'"),
        (lambda: nn.LeakyReLU(float("nan")), "LeakyReLU: expected a finite number for negative_slope"),
        (lambda: nn.BatchNorm2d(4, momentum=None), "BatchNorm2d: expected a number for momentum, got None"),
        (lambda: nn.BatchNorm2d(4, momentum=2), "momentum from 0 to 1"),
        (lambda: nn.BatchNorm2d(4, eps="1"), "BatchNorm2d: expected a number for eps, got '1'"),
        (lambda: nn.BatchNorm2d(4, eps=-1), "eps of at least 0"),
        (lambda: nn.Linear(3, 4, init=["he"]), "init: expected one of"),
    ],
)
def test_constructors_refuse_what_can_never_run(build, message) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        build()


def test_sizes_of_numpy_can_be_saved(tmp_path) -> None:
    n = np.int64
    net = nn.Sequential(
        nn.Conv2d(n(3), n(4), n(3), stride=(n(1), 1), padding=n(1), groups=n(1)),
        nn.Conv2d(4, 4, np.array([3, 3]), padding=np.array([1, 1])),
        nn.BatchNorm2d(n(4), np.float32(1e-3)),
        nn.LeakyReLU(np.float32(0.25)),
        nn.MaxPool2d(n(2)),
        nn.Flatten(),
        nn.Linear(n(64), n(5)),
    )
    path = tmp_path / "net.safetensors"
    fastcnn.save(net, path)
    np.testing.assert_array_equal(fastcnn.load(path)(X), net.eval()(X))
    assert fastcnn.models.create("lenet5", num_classes=n(3)).parameter_count() > 0


# ---- shapes, seeds, threads


def test_shapes_for_summary_and_plan() -> None:
    net = fastcnn.models.create("lenet5")
    want = net.summary((1, 28, 28))
    for shape in ("1x28x28", np.zeros((1, 28, 28), np.float32), [1, 28, 28], np.array([1, 28, 28])):
        assert net.summary(shape) == want
    plan = net.plan((4, 1, 28, 28))
    assert net.plan(np.zeros((4, 1, 28, 28), np.float32)) is net.plan("4x1x28x28") is plan
    trainer = fastcnn.Trainer(net, fastcnn.optim.SGD(net.parameters(), lr=0.1))
    assert trainer.plan("4x1x28x28") is trainer.plan((4, 1, 28, 28))
    assert net.summary() == want  # of the registry's networks the shape is known, of others after a call
    for call in (nn.Sequential(nn.ReLU()).summary, net.plan, trainer.plan):
        with pytest.raises(TypeError, match=r"expected an input shape such as \(1, 28, 28\)"):
            call(None)
    with pytest.raises(TypeError, match="name of a layout"):
        net.plan((4, 1, 28, 28), layout=5)
    with pytest.raises(TypeError, match="True or False for training"):
        net.plan((4, 1, 28, 28), training="yes")
    for repeats, error in ((0, ValueError), (1.5, TypeError), (True, TypeError)):
        with pytest.raises(error, match="profile: expected"):
            plan.profile(repeats)


@pytest.mark.parametrize("bad", [1.5, "1", None, True])
def test_seeds_and_threads_are_integers(bad) -> None:
    for call in (fastcnn.manual_seed, fastcnn.set_num_threads):
        with pytest.raises(TypeError, match="expected"):
            call(bad)
    with pytest.raises(ValueError, match="1 to 4096"):
        fastcnn.set_num_threads(2**40)
    fastcnn.manual_seed(np.int64(3))


def test_arrays_at_the_doors_of_tensors() -> None:
    for bad in ([1, 2], None, "x"):
        with pytest.raises(TypeError, match="Tensor: expected a NumPy array, got"):
            fastcnn.Tensor(bad)
        with pytest.raises(TypeError, match="from_dlpack: expected an array that speaks DLPack, got"):
            fastcnn.from_dlpack(bad)


@pytest.mark.parametrize(
    "setting,message",
    [
        ({"FASTCNN_VERBOSE": "all"}, "FASTCNN_VERBOSE: expected 0 or dispatch, got 'all'"),
        ({"FASTCNN_POISON": "yes"}, "FASTCNN_POISON: expected 0 or 1, got 'yes'"),
        ({"FASTCNN_ISA": "avx3"}, "FASTCNN_ISA: unknown instruction set 'avx3'; compiled in: "),
        ({"FASTCNN_VERBOSE": "0", "FASTCNN_POISON": "0", "FASTCNN_ISA": ""}, ""),
    ],
)
def test_switches_with_unknown_values_are_said(setting, message) -> None:
    import os
    import subprocess
    import sys

    code = "import fastcnn\ntry: fastcnn.info()\nexcept ValueError as e: print(e)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **setting},
        capture_output=True,
        text=True,
        check=True,
    )
    said = (done.stdout + done.stderr).splitlines()
    assert len(said) == (1 if message else 0) and message in "".join(said)
