"""Scripts and commands that are stopped from outside: by Ctrl-C, by kill -9, or because nobody reads."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import person
import pytest

import fastcnn

ALONE = person.SCRIPTS / "alone"
LONG = ["-m", "fastcnn", "train", "lenet5", "digits", "--epochs", "1000000", "--out", "net.safetensors"]
STOPPING = "stopping after this step; Ctrl-C again stops at once"


@contextlib.contextmanager
def started(folder: Path, *command: str) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(
        [sys.executable, *command], cwd=folder, env=person.environment(folder.parent / "home"),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def ended(process: subprocess.Popen) -> tuple[str, list[str]]:
    """What it still wrote to stdout, and its lines on stderr."""
    text, errors = process.communicate(timeout=60)
    return text, errors.splitlines()


def test_ctrl_c_ends_a_loop_over_settings(folder):
    with started(folder, str(ALONE / "01_loop_over_settings.py")) as process:
        assert [process.stdout.readline() for _ in range(2)] == ["lr 0.01\n", "1\n"]
        process.send_signal(signal.SIGINT)
        text, errors = ended(process)
    assert process.returncode == -signal.SIGINT and errors[0] == STOPPING
    assert errors[-1].startswith("KeyboardInterrupt: training ended in epoch ")
    assert "lr 0.05" not in text and "the end" not in text
    assert sorted(p.name for p in folder.iterdir()) == ["lenet5-digits.safetensors"]


def test_a_script_that_keeps_what_there_is(folder):
    with started(folder, str(ALONE / "02_save_what_there_is.py")) as process:
        assert process.stdout.readline() == "1\n"
        process.send_signal(signal.SIGINT)
        text, errors = ended(process)
    assert process.returncode == 0 and errors == [STOPPING]
    assert text.splitlines()[-2].startswith("stopped after ") and text.endswith("True\nand goes on: True\n")
    assert fastcnn.load(folder / "net.safetensors").classes == tuple("0123456789")


def test_a_script_that_asks_for_what_was_done(folder):
    with started(folder, str(ALONE / "03_return_on_interrupt.py")) as process:
        assert process.stdout.readline() == "1\n"
        process.send_signal(signal.SIGINT)
        text, errors = ended(process)
    assert process.returncode == 0 and errors == [STOPPING] and text.endswith("returned True True\n")


def test_the_second_ctrl_c_waits_for_nothing(folder):
    with started(folder, str(ALONE / "04_impatient.py")) as process:
        assert process.stdout.readline() == "reading\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline() == f"{STOPPING}\n"
        process.send_signal(signal.SIGINT)
        _, errors = ended(process)  # long before the minute that the reading takes
    assert process.returncode == -signal.SIGINT and errors[-1] == "KeyboardInterrupt"


def test_workers_by_fork_and_spawn(folder):
    with started(folder, str(ALONE / "05_workers.py")) as process:
        text, errors = ended(process)
    said = text.splitlines()
    assert process.returncode == 0 and errors == [], errors
    assert said and all(line.endswith(" True") for line in said) and "spawn True" in said, text


def training(folder: Path) -> contextlib.AbstractContextManager[subprocess.Popen]:
    (folder / "net.safetensors").write_bytes(b"what was there")
    return started(folder, *LONG)


def wait_for_an_epoch(process: subprocess.Popen) -> None:
    assert process.stderr.readline().startswith("epoch 1/1000000  loss ")


def test_ctrl_c_leaves_the_file_that_is_there(folder):
    with training(folder) as process:
        wait_for_an_epoch(process)
        process.send_signal(signal.SIGINT)
        text, errors = ended(process)
    assert process.returncode == 130 and STOPPING in errors and errors[-1] == "fastcnn: interrupted"
    assert (folder / "net.safetensors").read_bytes() == b"what was there"
    assert "wrote net.interrupted.safetensors (weights " in text and "Traceback" not in str(errors)
    assert len(fastcnn.load(folder / "net.interrupted.safetensors").classes) == 10


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGHUP"])
def test_what_kills_it_leaves_the_file_that_is_there(folder, name):
    with training(folder) as process:
        wait_for_an_epoch(process)
        process.send_signal(getattr(signal, name))
        ended(process)
    assert process.returncode == -getattr(signal, name)
    assert (folder / "net.safetensors").read_bytes() == b"what was there"
    assert sorted(p.name for p in folder.iterdir()) == ["lenet5-digits.safetensors", "net.safetensors"]


def test_a_folder_that_is_closed_is_told_before_the_first_step(folder):
    if os.name == "posix" and os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    folder.chmod(0o500)
    try:
        with started(folder, *LONG) as process:
            text, errors = ended(process)
    finally:
        folder.chmod(0o700)
    assert process.returncode == 1 and text == ""
    assert errors == ["fastcnn: net.safetensors: Permission denied"]
