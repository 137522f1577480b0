"""Finished work is not lost where its report is, options that shape what is printed, and Ctrl-C."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
from PIL import Image

import fastcnn
from fastcnn import io
from fastcnn.cli import app, main, show

COMMAND = [sys.executable, "-m", "fastcnn"]
TRAIN = ["train", "lenet5", "digits", "--epochs", "1", "--threads", "1"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    assert main([*TRAIN, "--epochs", "2", "--out", str(path)]) == 0
    return path


def shell(line, folder):
    return subprocess.run(["bash", "-c", line], cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    "where, status, said",
    [
        ("> /dev/full", 1, "the report is lost: No space left on device"),
        ("| head -1; exit ${PIPESTATUS[0]}", 1, "the report is lost: Broken pipe"),
        (">&-", 0, ""),
        (">&- 2>&-", 0, None),
        ("2>&-", 0, None),
        ("</dev/null >&- 2>&- <&-", 0, None),
    ],
)
def test_the_model_is_there_whoever_reads_the_report(tmp_path, where, status, said):
    if "/dev/full" in where and not os.path.exists("/dev/full"):
        pytest.skip("no full device here")
    done = shell(f"'{sys.executable}' -m fastcnn {' '.join(TRAIN)} --out m {where}", tmp_path)
    assert io.read(tmp_path / "m").input_shape == (1, 28, 28)
    assert done.returncode == status, done.stderr
    own = [line for line in done.stderr.splitlines() if line.startswith("fastcnn: ")]
    assert len(own) == bool(said) and all("wrote m (weights" in line and said in line for line in own)
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no full device here")
@pytest.mark.parametrize("what", ["evaluate MODEL digits", "info", "--version", "summary lenet5"])
def test_a_full_disk_under_the_output_is_one_line(model, tmp_path, what):
    command = what.replace("MODEL", str(model))
    done = shell(f"'{sys.executable}' -m fastcnn {command} > /dev/full", tmp_path)
    assert done.returncode == 1 and done.stderr == "fastcnn: standard output: No space left on device\n"
    done = shell(f"'{sys.executable}' -m fastcnn {command} | true; exit ${{PIPESTATUS[0]}}", tmp_path)
    assert done.stderr == ""  # a reader that went away is no error to speak of


def test_the_place_is_tried_before_the_training(tmp_path, monkeypatch, capfd):
    from fastcnn.data import sources

    monkeypatch.setattr(sources, "open_parts", lambda *a: pytest.fail("began the work"))
    (tmp_path / "folder").mkdir()
    for option in ("--out", "--json"):
        for name, said in (
            ("x" * 300, "File name too long"),
            ("no/m", "folder that exists"),
            ("folder", "is a folder"),
        ):
            assert main([*TRAIN, option, str(tmp_path / name)]) == 1
            error = capfd.readouterr().err
            assert (
                error.startswith(f"fastcnn: {tmp_path / name}: ") and said in error and error.count("\n") == 1
            )
    assert main([*TRAIN, "--out", str(tmp_path / "a"), "--json", str(tmp_path / "a")]) == 1
    assert "two files" in capfd.readouterr().err
    assert main(["bench", "train", "--json", str(tmp_path / "no" / "b")]) == 1
    assert "folder that exists" in capfd.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_a_place_that_goes_away_does_not_take_the_model_with_it(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "gone").mkdir()
    out, fit = tmp_path / "gone" / "m", fastcnn.Trainer.fit

    def removed(self, *args, **options):
        history = fit(self, *args, **options)
        (tmp_path / "gone").rmdir()
        return history

    monkeypatch.setattr(fastcnn.Trainer, "fit", removed)
    assert main([*TRAIN, "--out", str(out)]) == 1
    error = capfd.readouterr().err.splitlines()[-1]
    assert error.startswith(f"fastcnn: {out}: ") and "the network is in " in error
    assert io.read(error.split("the network is in ")[1]).input_shape == (1, 28, 28)


def test_links_and_pipes_stay_what_they_are(tmp_path, capfd):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    assert main([*TRAIN, "--out", str(tmp_path / "link")]) == 0
    assert (tmp_path / "link").is_symlink() and io.read(tmp_path / "target")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with open(tmp_path / "read", "wb") as read, subprocess.Popen(["cat", str(pipe)], stdout=read):
        assert main([*TRAIN, "--out", str(pipe)]) == 0
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert (tmp_path / "read").read_bytes() == (tmp_path / "target").read_bytes()


def interrupted(folder, *options):
    """A long training that Ctrl-C ends after its first epoch."""
    command = [*COMMAND, *TRAIN[:3], "--epochs", "1000000", "--threads", "1", *options]
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert "epoch 1/" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    text, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and errors.splitlines()[-1] == "fastcnn: interrupted", errors
    return text


def test_an_interrupted_run_replaces_nothing(tmp_path):
    text = interrupted(tmp_path, "--out", "m.safetensors")
    assert "wrote m.safetensors (" in text
    before = (tmp_path / "m.safetensors").read_bytes()
    for name in ("m.interrupted.safetensors", "m.interrupted2.safetensors"):
        assert f"wrote {name} (" in interrupted(tmp_path, "--out", "m.safetensors")
        assert io.read(tmp_path / name).input_shape == (1, 28, 28)
    assert (tmp_path / "m.safetensors").read_bytes() == before
    assert json.loads(interrupted(tmp_path, "--out", "j", "--json", "-"))["interrupted"] is True


def test_a_finished_run_says_that_it_replaced(tmp_path, capfd):
    for word in ("wrote", "replaced"):
        assert main([*TRAIN, "--out", str(tmp_path / "m")]) == 0
        assert f"{word} {tmp_path / 'm'} (weights" in capfd.readouterr().out


def test_ctrl_c_before_the_training_is_one_line(monkeypatch, capfd):
    def waits(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("fastcnn.data.sources.open_parts", waits)
    assert main(TRAIN) == 130
    assert capfd.readouterr().err == "fastcnn: interrupted\n"


def test_nothing_of_the_bar_stays_after_ctrl_c(tmp_path):
    terminal = pytest.importorskip("terminal")
    for columns in (60, 80):
        process, end = terminal.start(
            ["-m", "fastcnn", *TRAIN[:3], "--epochs", "1000000", "--out", str(tmp_path / "m")], columns
        )
        seen = b""
        while b"images/s" not in seen and b"acc " not in seen:
            seen += os.read(end, 65536)
        time.sleep(0.3)
        os.write(end, b"\x03")
        sent = seen.decode(errors="replace") + terminal.read_all(process, end)
        assert process.returncode == 130 and "Traceback" not in sent
        text = terminal.screen(sent, columns)
        assert "\u2501" not in text and "images/s  " not in text.split("epoch  ")[0], text
        assert "interrupted in epoch" in " ".join(text.split())


def test_json_of_train_and_evaluate(model, tmp_path, capfd):
    figures = tmp_path / "t.json"
    assert main([*TRAIN, "--out", str(tmp_path / "m"), "--json", str(figures)]) == 0
    assert "held-out accuracy" in capfd.readouterr().out
    content = json.loads(figures.read_text())
    assert content["settings"]["epochs"] == 1 and content["epochs"][0]["validation"]["accuracy"] > 0.5
    assert main([*TRAIN, "--out", str(tmp_path / "m"), "--json", "-"]) == 0
    assert json.loads(capfd.readouterr().out)["weights"] == content["weights"]
    assert main(["evaluate", str(model), "digits", "--json", "-"]) == 0
    content = json.loads(capfd.readouterr().out)
    assert content["images"] == 355 == sum(c["images"] for c in content["classes"])
    assert content["right"] == sum(c["right"] for c in content["classes"]) == round(content["accuracy"] * 355)


def test_predictions_as_wide_and_as_many_as_wanted(model, tmp_path, capfd):
    for name in ("a.png", "b.png"):
        Image.fromarray(255 - fastcnn.data.digits().images[3, 0]).resize((56, 56)).save(tmp_path / name)
    (tmp_path / "bad.png").write_bytes(b"no image")
    files = [str(tmp_path / name) for name in ("a.png", "bad.png", "b.png")]
    assert main(["predict", str(model), *files, "--brief"]) == 1
    assert [line.split(": ")[0] for line in capfd.readouterr().out.splitlines()] == [files[0], files[2]]
    assert main(["predict", str(model), files[0], "--top", "3"]) == 0
    head, *bars = capfd.readouterr().out.splitlines()
    shares = [float(bar.split()[-2]) for bar in bars]
    assert len(bars) == 3 and shares == sorted(shares, reverse=True) and bars[0].split()[0] in head
    assert main(["predict", str(model), *files, "--json", "-", "--top", "2"]) == 1
    first, bad, _ = json.loads(capfd.readouterr().out)["images"]
    assert [len(first["classes"]), "image" in bad["error"]] == [2, True]
    assert first["classes"][0]["probability"] > first["classes"][1]["probability"]


def test_names_that_the_stream_cannot_show_are_escaped(model, tmp_path):
    saved = io.read(model)
    names = ["\u732b", "caf\udce9", *map(str, range(8))]
    Image.fromarray(np.zeros((28, 28), np.uint8)).save(tmp_path / "a.png")
    code = (
        "import sys; from fastcnn.cli import show; import numpy as np; show.prepare_streams()\n"
        f"show.prediction('a.png', {names!r}, np.full(10, .1))\n"
        f"show.table(show.per_class({names!r}, np.ones(10, int), np.ones(10, int)))"
    )
    assert len(saved.classes) == 10
    for encoding in ("ascii", "utf-8", "latin-1"):
        env = {**os.environ, "PYTHONIOENCODING": encoding}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert (b"\\u732b" in done.stdout) == (encoding != "utf-8") and done.stdout.count(b"%") == 21


def test_help_version_and_usage_errors(capfd):
    assert main(["--version"]) == 0
    assert capfd.readouterr().out == f"fastcnn {fastcnn.__version__}\n"
    texts = []
    for option in ("-h", "--help"):
        assert main(["train", option]) == 0
        texts.append(capfd.readouterr().out)
    assert texts[0] == texts[1] and "docs/" not in texts[0]
    assert main(["train", "lenet5", "digits", "--bogus"]) == 2
    assert "(see fastcnn train --help)" in capfd.readouterr().err
    assert main(["--bogus"]) == 2
    assert "(see fastcnn --help)" in capfd.readouterr().err


def test_completion():
    env = {**os.environ, "COMP_WORDS": "fastcnn tr", "COMP_CWORD": "1", "_FASTCNN_COMPLETE": "complete_bash"}
    done = subprocess.run(COMMAND, env=env, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "train" and done.stderr == ""


def test_options_that_would_be_ignored_are_errors(model, tmp_path, capfd):
    for command, said in {
        ("train", "lenet5", "digits", "--data-dir", str(tmp_path)): "digits needs none",
        ("evaluate", str(model), "digits", "--data-dir", str(tmp_path)): "digits needs none",
        ("bench", "memory", "--rounds", "3"): "--rounds",
        ("bench", "train", "--numpy"): "--numpy",
    }.items():
        assert main(list(command)) == 1
        error = capfd.readouterr().err
        assert said in error and error.count("\n") == 1


def test_warnings_are_one_line(monkeypatch, capfd):
    monkeypatch.setattr(
        show, "pairs", lambda entries: warnings.warn("an image\nof many pixels", stacklevel=1)
    )
    assert main(["info"]) == 0 and app
    assert capfd.readouterr().err == "fastcnn: an image of many pixels\n"


def test_rows_of_a_benchmark_are_printed_once_as_they_come(capsys):
    from fastcnn.bench import timing

    columns = [("name", "op", "8s"), ("ms", "ms", ".1f"), ("numpy_ms", "NumPy ms", ".0f")]
    rows = timing.show(({"name": n, "ms": 1.0, "numpy_ms": None} for n in "ab"), columns)
    out = capsys.readouterr().out
    assert len(rows) == 2 and out.splitlines() == [
        "op             ms",
        "a             1.0",
        "b             1.0",
    ]
    assert timing.chosen((("VGG", 3), ("lenet", 4)), ["vgg"]) == (("VGG", 3),)
    assert timing.executed(144.0, "conv2d:winograd4x4:avx2") == 36.0


def test_the_peak_is_the_highest_measured(monkeypatch):
    from fastcnn.bench import timing

    speeds = iter([5.0] * 10 + [1.0] * 3 + [9.0] * 3)
    monkeypatch.setattr(timing, "_peaks", {})
    monkeypatch.setattr(timing._core, "fma_peak", lambda seconds: next(speeds))
    assert [timing.fma_peak(3) for _ in range(3)] == [5.0, 5.0, 9.0]
