"""The fastcnn command: what it prints, leaves behind, and says when something is wrong."""

import io as stdio
import os
import signal
import subprocess
import sys
import time
import types
import zipfile

import numpy as np
import pytest
from PIL import Image

from fastcnn import data, io
from fastcnn.cli import main


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A quickly trained LeNet-5 and what the command printed."""
    folder = tmp_path_factory.mktemp("trained")
    path = folder / "m.safetensors"
    done = subprocess.run(
        [sys.executable, "-m", "fastcnn", "train", "lenet5", "digits", "--epochs", "10", "--threads", "1"]
        + ["--out", str(path)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return path, done


def run(*arguments):
    return main([str(a) for a in arguments])


def error_of(capfd, *arguments):
    """The one line on stderr of a command that fails."""
    assert run(*arguments) != 0
    out = capfd.readouterr()
    assert out.err.startswith("fastcnn: ") and out.err.count("\n") == 1, out.err
    return out.err


def test_train_prints_a_table_and_leaves_a_file(trained):
    path, done = trained
    assert "held-out accuracy" in done.stdout and "1,442 images to train on, 355 held out" in done.stdout
    assert str(path) in done.stdout
    lines = done.stderr.splitlines()  # without a terminal, a line per epoch
    assert [line.split()[1] for line in lines] == [f"{i}/10" for i in range(1, 11)]
    assert all("val acc" in line and "images/s" in line for line in lines)
    saved = io.read(path)
    assert saved.input_shape == (1, 28, 28) and saved.classes == tuple("0123456789")
    assert saved.preprocessing == data.digits().preprocessing


def test_the_default_file_name_and_the_seed(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    digests = []
    for options in (["--threads", "1"], ["--threads", "2"], ["--seed", "1"]):
        assert run("train", "lenet5", "digits", "--epochs", "1", *options) == 0
        digests.append(capfd.readouterr().out.split("(weights ")[1])
    assert (tmp_path / "lenet5-digits.safetensors").is_file()
    assert digests[0] == digests[1] != digests[2]


def test_evaluate(trained, capfd):
    assert run("evaluate", trained[0], "digits") == 0
    out = capfd.readouterr().out
    assert "of 355" in out and float(out.split("accuracy ")[-1].split()[0]) > 90


def test_predict_reads_other_peoples_images(trained, tmp_path, capfd):
    held_out = data.digits(train=False)
    right = 0
    paths = []
    for i in range(20):
        paths.append(tmp_path / f"{i}.png")  # dark ink on a light page, another size
        page = Image.fromarray(255 - held_out.images[i, 0]).resize((140, 140))
        page.save(paths[-1])
    assert run("predict", trained[0], *paths) == 0
    lines = [x for x in capfd.readouterr().out.splitlines() if x.startswith(str(tmp_path))]
    for i, text in enumerate(lines):
        right += text.split(": ")[1].startswith(f"{held_out.labels[i]} (")
    assert len(lines) == 20 and right >= 16


def test_predict_goes_on_after_a_bad_image(trained, tmp_path, capfd):
    (tmp_path / "bad.png").write_bytes(b"no image")
    good = Image.new("L", (28, 28))
    good.paste(255, (12, 4, 16, 24))
    good.save(tmp_path / "good.png")
    assert run("predict", trained[0], tmp_path / "bad.png", tmp_path / "none.png", tmp_path / "good.png") == 1
    out = capfd.readouterr()
    assert out.err.count("\n") == 2 and "not a readable image" in out.err and "No such file" in out.err
    assert "good.png: " in out.out and out.out.count("%") == 11


def test_summary(trained, capfd):
    for what in ("lenet5", trained[0]):
        assert run("summary", what) == 0
        assert "61,706" in capfd.readouterr().out
    assert run("summary", "resnet20_cifar", "--input-shape", "3x64x64") == 0
    assert "269,722" in capfd.readouterr().out


def test_info(capfd):
    assert run("info") == 0
    out = capfd.readouterr().out
    for word in ("version", "compiler", "instruction set", "threads", "openmp", "cuda"):
        assert word in out


def test_help_has_examples(capfd):
    for command in ("train", "evaluate", "predict", "summary", "bench"):
        assert run(command, "--help") == 0
        assert "Example" in capfd.readouterr().out
    assert run("--help") == 0
    assert "fastcnn train lenet5 digits" in capfd.readouterr().out


def test_a_benchmark_without_cases_is_an_error(capfd):
    for what, known in (("ops", "vgg 64x56 b16"), ("train", "lenet5 b1024"), ("networks", "vgg16 infer b1")):
        error = error_of(capfd, "bench", what, "--only", "nosuch")
        assert "no case has 'nosuch' in its name" in error and known in error
    versus = [sys.executable, "-m", "fastcnn.bench.versus", "other", "--only", "nosuch"]
    done = subprocess.run(versus, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "there are lenet5 train b64" in done.stderr and not done.stdout


@pytest.mark.parametrize("platform, unit", [("linux", 1024), ("darwin", 1)])
def test_peak_memory_is_in_bytes(platform, unit, monkeypatch):
    from fastcnn.bench import memory

    monkeypatch.setattr(memory.sys, "platform", platform)
    monkeypatch.setattr(memory.resource, "getrusage", lambda who: types.SimpleNamespace(ru_maxrss=3000))
    assert memory.peak_bytes() == 3000 * unit


def image_zip(path):
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as z:
        for part, count in (("train", 30), ("test", 6)):
            for label, colour in (("red", (200, 0, 0)), ("green", (0, 200, 0))):
                for i in range(count):
                    pixels = (np.array(colour) + rng.integers(0, 50, (32, 32, 3))).astype(np.uint8)
                    out = stdio.BytesIO()
                    Image.fromarray(pixels).save(out, "PNG")
                    z.writestr(f"colours/{part}/{label}/{i}.png", out.getvalue())
    return path


def test_train_on_a_zip_of_images(tmp_path, capfd):
    archive = image_zip(tmp_path / "colours.zip")
    model = tmp_path / "colours.safetensors"
    assert (
        run(
            "train",
            "resnet20_cifar",
            archive,
            "--epochs",
            2,
            "--batch-size",
            20,
            "--lr",
            0.05,
            "--out",
            model,
        )
        == 0
    )
    assert "60 images to train on, 12 held out" in capfd.readouterr().out
    assert io.read(model).classes == ("green", "red")
    assert run("evaluate", model, archive) == 0
    assert "of 12" in capfd.readouterr().out
    assert "the model knows the classes green, red" in error_of(capfd, "evaluate", model, "digits")


def test_errors_are_one_line(trained, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def offline(*args, **kwargs):
        raise OSError("no network here")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    (tmp_path / "damaged").write_bytes(trained[0].read_bytes()[:1000])
    (tmp_path / "text").write_text("hello")
    cases = {
        ("train", "lenet", "digits"): "did you mean 'lenet5'",
        ("train", "lenet5", "digit"): "no data set named 'digit'",
        ("train", "lenet5", "mnist", "--data-dir", "here"): "Put t10k-images-idx3-ubyte.gz",
        ("train", "lenet5", "mnist", "--data-dir", "text"): "is a file",
        ("train", "lenet5", "digits", "--lr-decay", "linear"): "none, cosine, steps",
        ("train", "lenet5", "digits", "--epochs", "0"): "epochs",
        ("train", "lenet5", "digits", "--epochs", "many"): "epochs",
        ("train", "lenet5", "digits", "--lr", "-1"): "lr",
        ("train", "lenet5", "digits", "--out", "no/folder/m"): "folder that exists",
        ("train", "lenet5", "text"): "not a readable zip",
        ("train", "lenet5"): "DATA",
        ("trian",): "trian",
        ("evaluate", "none", "digits"): "none: No such file",
        ("evaluate", "damaged", "digits"): "not a safetensors file",
        ("predict", "text", "x.png"): "text",
        ("summary", "lenet"): "available: lenet5",
        ("summary", "lenet5", "--input-shape", "1x28"): "3x32x32",
        ("summary", "lenet5", "--input-shape", "3x28x28"): "expected",
        ("train", "lenet5", "digits", "--nonsense"): "nonsense",
    }
    for arguments, expected in cases.items():
        assert expected in error_of(capfd, *arguments), arguments
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix == ".safetensors") == []


def test_ctrl_c_leaves_a_usable_model(tmp_path):
    out = tmp_path / "m.safetensors"
    command = [
        sys.executable,
        "-m",
        "fastcnn",
        "train",
        "lenet5",
        "digits",
        "--epochs",
        "1000000",
        "--out",
        str(out),
    ]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # a shell's background job ignores it
    )
    assert "images to train on" in process.stdout.readline()
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    text, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted in epoch" in text, (text, errors)
    assert io.read(out).input_shape == (1, 28, 28)


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no pseudo-terminals")
def test_a_terminal_sees_progress(tmp_path):
    main_end, terminal = os.openpty()
    command = [sys.executable, "-m", "fastcnn", "train", "lenet5", "digits", "--epochs", "10"]
    command += ["--threads", "1", "--out", str(tmp_path / "m")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=terminal)
    os.close(terminal)
    seen = b""
    try:
        while chunk := os.read(main_end, 65536):
            seen += chunk
    except OSError:  # Linux ends a closed terminal with an error
        pass
    os.close(main_end)
    assert process.wait(timeout=60) == 0
    assert b"images/s" in seen and b"epoch" in seen


@pytest.mark.parametrize("value, raises", [("1", True), ("0", False), ("", False)])
def test_tracebacks_only_where_asked_for(monkeypatch, capsys, value, raises):
    from fastcnn import cli

    monkeypatch.setenv("FASTCNN_DEBUG", value)
    if raises:
        with pytest.raises(ValueError, match="nosuchnet"):
            cli.main(["summary", "nosuchnet"])
    else:
        assert cli.main(["summary", "nosuchnet"]) == 1
        assert capsys.readouterr().err.startswith("fastcnn: ")
