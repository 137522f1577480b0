"""How networks, plans and histories show themselves: at prompts, in notebooks, printed, at any width."""

import contextlib
import io
import sys

import numpy as np
import pytest

import fastcnn
from fastcnn import functional as F
from fastcnn import nn
from fastcnn._text import fitted
from fastcnn.train.history import EpochRecord, Evaluation, History
from fastcnn.train.progress import ProgressLines, make_progress


class Mixed(nn.Module):
    """Layers, ops, a parameter of its own, a shared layer, layers that are not used."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.again = nn.Conv2d(4, 4, 3, padding=1)
        self.own = nn.Parameter(np.ones(3, np.float32))
        self.spare = nn.Sequential(nn.ReLU(), nn.Linear(2, 2))

    def forward(self, x):
        x = F.relu(self.conv(x))
        return F.flatten(self.again(self.again(x)) + x)


def test_rows_add_up_to_the_totals():
    for net, shape in ((Mixed(), (1, 8, 8)), (fastcnn.models.create("resnet20_cifar"), (3, 32, 32))):
        summary = net.summary(shape)
        assert (
            summary.parameters
            == sum(row["parameters"] for row in summary.rows)
            == sum(p.size for p in net.parameters())
        )
        assert summary.macs == sum(row["macs"] for row in summary.rows)
    kinds = {row["kind"] for row in Mixed().summary((1, 8, 8)).rows}
    assert {"Conv2d", "relu", "add", "flatten", "own parameters", "Linear, not used"} <= kinds
    shared = [row for row in Mixed().summary((1, 8, 8)).rows if row["layer"] == "again"]
    assert [row["parameters"] > 0 for row in shared] == [True, False] and shared[0]["macs"] == shared[1][
        "macs"
    ] > 0


def test_frozen_layers_are_marked():
    net = fastcnn.models.create("lenet5")
    assert "all trainable" in net.summary((1, 28, 28)) and "frozen" not in net.summary((1, 28, 28))
    net.requires_grad_(False)
    for p in list(net.parameters())[-2:]:
        p.requires_grad = True
    summary = net.summary((1, 28, 28))
    assert summary.trainable == 850 and "850 of them trainable" in summary and summary.count("frozen") == 4


@pytest.mark.parametrize(
    "shape",
    [None, (1, -2, 3), (), (1.5, 2, 3), (1, 0, 8), (1, 2, 3, 4, 5), "wide", np.zeros((0, 1, 8, 8))],
    ids=str,
)
def test_a_summary_needs_a_shape(shape):
    with pytest.raises(
        (TypeError, ValueError), match=r"summary: expected (an input shape|the shape|sizes)"
    ) as caught:
        Mixed().summary(shape)
    assert len(str(caught.value)) < 200 and "\n" not in str(caught.value)


def test_prompts_and_notebooks_show_the_tables():
    net = fastcnn.models.create("lenet5").eval()
    plan = net.plan((2, 1, 28, 28))
    for text in (net.summary((1, 28, 28)), plan.describe(), plan.profile(1)):
        assert repr(text) == str(text) and len(text.splitlines()) > 5
        assert text._repr_html_().startswith("<pre") and text._repr_html_().endswith("</pre>")
    assert repr(plan).startswith("<plan: ") and "\n" not in repr(plan) and "<pre" in plan._repr_html_()
    assert str(plan) == plan.describe()

    class Named(nn.Module):
        def extra_repr(self):
            return "<b>&"

    assert "&lt;b&gt;&amp;" in Named()._repr_html_()


@pytest.mark.parametrize("width", [60, 80, 120])
def test_plans_fit_and_keep_their_steps(width):
    net = fastcnn.models.create("resnet20_cifar")
    plan = net.plan((8, 3, 32, 32), training=True)
    profile = plan.profile(1, by_time=True, width=width)
    for text in (plan.describe(width), profile):
        assert max(map(len, text.splitlines())) <= width
    seconds = [s["seconds"] for s in profile.steps]
    assert len(seconds) == len(plan.steps) and seconds == sorted(seconds, reverse=True)
    assert (
        sum(s["share"] for s in profile.steps) == pytest.approx(1) and " % " in profile.splitlines()[0] + " "
    )


def test_texts_are_cut_only_where_nothing_else_helps():
    rows = [["layer", "us"], ["a.very.long.name.of.a.layer", "1.0"]]
    assert fitted([(rows, 1)], None)[1] == "a.very.long.name.of.a.layer  1.0"
    assert all(len(line) <= 20 for line in fitted([(rows, 1)], 20))
    assert fitted([(rows, 1)], 20)[1].endswith("1.0") and "layer" in fitted([(rows, 1)], 20)[1]


def history(count, best=None):
    h = History()
    for i in range(1, count + 1):
        held_out = Evaluation(0.1, 0.99 if i == best else 0.9)
        h.epochs.append(EpochRecord(i, 1 / i, 0.8, 1000, 0.5, 0.1, held_out))
    return h


def test_a_long_history_has_its_first_best_and_last_epoch():
    for count, best in ((40, 7), (40, 40), (20, 3), (21, 2), (1000, 501), (1, 1)):
        shown = [int(line.split()[0]) for line in str(history(count, best)).splitlines()[1:]]
        assert {1, best, count} <= set(shown) and shown == sorted(set(shown)) and len(shown) <= 21, shown
    assert history(40, 7).best().epoch == 7 and History().best() is None


def test_a_history_prints_itself_without_side_effects(capfd, monkeypatch):
    h = history(3, 2)
    text = str(h)
    assert capfd.readouterr() == ("", "") and text.isascii() and len(text.splitlines()) == 4
    figures = "loss 0.3333, accuracy 80.00 %, held-out accuracy 90.00 %, best 99.00 % in epoch 2"
    assert repr(h) == f"<History: 3 epochs in 1.50 s, {figures}>"
    assert repr(History()) == "<History: no epochs>" and str(History())
    assert h._repr_html_().count("<tr>") == 4 and "best 99.00 % in epoch 2" in h._repr_html_()


class Terminal(io.StringIO):
    def isatty(self):
        return True


def seen(wanted, first, stream, monkeypatch, term="xterm"):
    """What a run of two epochs writes to stderr."""
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", term)
    with make_progress(wanted, 2, 10, first) as shown:
        for epoch in (first, first + 1):
            shown.step(epoch, 10, 0.5, 0.5)
            shown.epoch(EpochRecord(epoch, 0.5, 0.5, 10, 1.0, 0.1))
    return stream.getvalue()


def test_who_sees_which_progress(monkeypatch):
    lines = [
        "epoch 7/8  loss 0.5000  acc 50.0  1.00 s  10 images/s",
        "epoch 8/8  loss 0.5000  acc 50.0  1.00 s  10 images/s",
    ]
    assert seen(None, 7, io.StringIO(), monkeypatch) == seen(False, 7, Terminal(), monkeypatch) == ""
    for wanted, stream in ((True, io.StringIO()), ("lines", io.StringIO()), ("lines", Terminal())):
        assert seen(wanted, 7, stream, monkeypatch).splitlines() == lines
    assert seen(True, 7, Terminal(), monkeypatch, term="dumb").splitlines() == lines
    for wanted in (None, True):
        assert "epoch 7/8" in seen(wanted, 7, Terminal(), monkeypatch)


def test_a_second_fit_counts_on(capfd):
    model = fastcnn.models.create("lenet5")
    trainer = fastcnn.Trainer(model, fastcnn.optim.SGD(model.parameters(), lr=0.05))
    x, y = np.zeros((8, 1, 28, 28), np.float32), np.zeros(8, np.int64)
    for epochs, said in ((2, ["1/2", "2/2"]), (3, ["3/5", "4/5", "5/5"])):
        trainer.fit((x, y), epochs, progress=True)
        assert [line.split()[1] for line in capfd.readouterr().err.splitlines()] == said


def test_what_callbacks_print_goes_where_it_should(monkeypatch, capfd):
    """The bar is on the terminal, standard output is a file."""
    stream, out = Terminal(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    with contextlib.redirect_stdout(out), make_progress(True, 1, 10):
        print("from a callback")
    assert out.getvalue() == "from a callback\n" and "callback" not in stream.getvalue()


def test_lines_survive_a_closed_stream(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    ProgressLines(1).epoch(EpochRecord(1, 0.5, 0.5, 10, 1.0, 0.1))
    assert isinstance(make_progress(True, 1, 10), ProgressLines)
