"""What people see, kept as text under golden/: at 60, 80 and 120 columns, in a pipe, without colours, in a notebook.

FASTCNN_UPDATE_GOLDEN=1 pytest tests/cli/test_golden.py writes the files anew: read them before they are committed.
"""

import importlib.metadata
import io as stdio
import os
import subprocess
import sys
import time

import pytest
from PIL import Image

import fastcnn
from fastcnn import data
from fastcnn.train.history import EpochRecord, Evaluation

terminal = pytest.importorskip("terminal")  # pseudo-terminals

WIDTHS = (60, 80, 120)
# The portable kernels: the same plan on every machine.
STEADY = {"FASTCNN_ISA": "scalar", "OMP_NUM_THREADS": "1"}
MODEL = "lenet5-digits.safetensors"
TRAIN = ["train", "lenet5", "digits", "--epochs", "2", "--threads", "1"]
COMMANDS = {
    "evaluate": ["evaluate", MODEL, "digits"],
    "predict": ["predict", MODEL, "three.png"],
    "predict-brief": ["predict", MODEL, "three.png", "--top", "3", "--brief"],
    "summary-lenet5": ["summary", "lenet5"],
    "summary-resnet20": ["summary", "resnet20_cifar"],
}
# The table of a profile has widths that depend on the times: here they are made up.
PLAN = """
import fastcnn, numpy
from fastcnn.plan import Profile
plan = fastcnn.models.create("lenet5").plan((64, 1, 28, 28), training=True)
print(plan.profile(1))
print("---")
print(plan.describe())
print(Profile(plan.steps, numpy.arange(1, len(plan.steps) + 1) * 1e-5, by_time=True))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of two epochs and an image."""
    place = tmp_path_factory.mktemp("golden")
    command = [sys.executable, "-m", "fastcnn", *TRAIN]
    done = subprocess.run(
        command,
        cwd=place,
        env={**os.environ, **STEADY},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    terminal.check_golden(
        "train-pipe", terminal.masked(done.stdout) + "--- stderr\n" + terminal.masked(done.stderr)
    )
    held_out = data.digits(train=False)
    which = int((held_out.labels == 3).argmax())
    Image.fromarray(255 - held_out.images[which, 0]).resize((140, 140)).save(place / "three.png")
    return place


def shown(place, arguments, columns, **environment):
    """What stays on the screen."""
    sent = terminal.run(["-m", "fastcnn", *arguments], columns, cwd=place, **STEADY, **environment)
    assert "Traceback" not in sent
    text = terminal.screen(sent, columns)
    assert max(map(len, text.splitlines())) <= columns
    return sent, text


@pytest.mark.parametrize("columns", WIDTHS)
def test_training(folder, tmp_path, columns):
    sent, text = shown(tmp_path, TRAIN, columns)
    assert "epoch 2/2" in sent and "epoch 2/2" not in text  # the bar was there and is gone
    terminal.check_golden(f"train-{columns}", terminal.masked(text))


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize("name", COMMANDS)
def test_commands(folder, name, columns):
    _, text = shown(folder, COMMANDS[name], columns)
    terminal.check_golden(f"{name}-{columns}", terminal.masked(text))


def test_without_colours(folder):
    sent, text = shown(folder, COMMANDS["evaluate"], 80, NO_COLOR="1")
    assert "\x1b[3" not in sent  # bold stays, colours go
    terminal.check_golden("evaluate-80", terminal.masked(text))


def test_in_a_pipe(folder):
    for name, arguments in COMMANDS.items():
        done = subprocess.run(
            [sys.executable, "-m", "fastcnn", *arguments], cwd=folder, capture_output=True, check=True, timeout=60,
            env={**os.environ, **STEADY, "PYTHONIOENCODING": "utf-8"},
        )  # fmt: skip
        assert done.stderr == b"" and b"\x1b" not in done.stdout
        terminal.check_golden(f"{name}-pipe", terminal.masked(done.stdout.decode()))


def test_keys_of_info(folder):
    _, text = shown(folder, ["info"], 120)
    keys = "\n".join(line[:27].split("  ")[0] for line in text.splitlines())
    terminal.check_golden("info-keys", keys + "\n")


@pytest.mark.parametrize("columns", WIDTHS)
def test_plans(folder, columns):
    text = terminal.screen(terminal.run(["-c", PLAN], columns, **STEADY), columns)
    assert max(map(len, text.splitlines())) <= columns
    terminal.check_golden(f"plan-{columns}", text.split("---\n")[1])


@pytest.mark.parametrize("command", ["", "train", "evaluate", "predict", "summary", "info", "bench"])
def test_help(folder, command):
    versions = " ".join(f"{name} {importlib.metadata.version(name)}" for name in ("typer", "rich"))
    path = terminal.GOLDEN / f"help{'-' * bool(command)}{command}.txt"
    if not terminal.UPDATE and path.read_text(encoding="utf-8").splitlines()[0] != versions:
        pytest.skip(f"written with {path.read_text(encoding='utf-8').splitlines()[0]}")
    _, text = shown(folder, [*command.split(), "--help"], 80)
    terminal.check_golden(path.stem, f"{versions}\n{text}")


@pytest.mark.parametrize("columns", [40, *WIDTHS, 200])
def test_the_live_line(columns):
    from rich.console import Console

    from fastcnn.train.progress import ProgressBar

    lines = []
    for held_out in (None, Evaluation(0.08, 0.97701)):
        for done, epoch, last in ((20000, 14, 40), (1442 * 999, 1000, 1000)):
            console = Console(width=columns, file=stdio.StringIO(), force_terminal=True, no_color=True)
            bar = ProgressBar(last, 1442, 1, console)
            if held_out is not None:
                bar.epoch(EpochRecord(epoch - 1, 0.1, 0.9, 1442, 0.05, 0.1, held_out))
            bar._begun = time.perf_counter() - 3.0
            bar.step(epoch, done, 0.0649, 0.98067)
            console.print(bar)
            lines.append(console.file.getvalue().rstrip())
    assert all("━" in line and len(line) <= columns for line in lines)
    terminal.check_golden(f"bar-{columns}", terminal.masked("\n".join(lines) + "\n"))


CELLS = (
    "import fastcnn; fastcnn.manual_seed(0); model = fastcnn.models.create('lenet5')",
    "model",
    "model.summary((1, 28, 28))",
    "optimizer = fastcnn.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)\n"
    "trainer = fastcnn.Trainer(model, optimizer)\n"
    "history = trainer.fit(fastcnn.data.digits(), epochs=2, batch_size=32)",
    "print(history)",
    "history",
    "[history]",
)


def test_a_notebook(monkeypatch):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    for name, value in STEADY.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", os.path.dirname(os.path.dirname(fastcnn.__file__)))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    text = ""
    for cell in notebook.cells:
        text += f">>> {cell.source}\n"
        for output in cell.outputs:
            if output.output_type == "stream":
                assert output.name == "stdout" and "\x1b" not in output.text, output
                text += output.text
            else:
                for kind, content in sorted(output.data.items()):
                    text += f"[{kind}]\n{content.rstrip()}\n"
    terminal.check_golden("notebook", terminal.masked(text))
