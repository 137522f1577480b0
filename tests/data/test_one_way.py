"""One model, asked in every way there is: the same answer to the last image."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fastcnn
from fastcnn import data, io
from fastcnn.cli import main

DATA = os.environ.get("FASTCNN_DATA")


def digits_parts(folder):
    return data.digits(), data.digits(train=False), "digits", 2


def mnist_parts(folder):
    """10,000 images to train on and 1,000 to ask about, as files that the command reads as well."""
    if DATA is None or not (Path(DATA) / "mnist").is_dir():
        pytest.skip("FASTCNN_DATA has no mnist")
    whole = Path(DATA) / "mnist"
    for part, count in (("train", 10000), ("t10k", 1000)):
        for kind in ("images-idx3", "labels-idx1"):
            array = data.read_idx(whole / f"{part}-{kind}-ubyte.gz")[:count]
            data.write_idx(folder / f"{part}-{kind}-ubyte.gz", array)
    return data.mnist(folder), data.mnist(folder, train=False), "mnist", 1


def trained(train, held_out, epochs, file, how):
    fastcnn.manual_seed(0)
    model = fastcnn.models.create("lenet5")
    trainer = fastcnn.Trainer(model, fastcnn.optim.SGD(model.parameters(), lr=0.03, momentum=0.9))
    pair = (held_out.images, held_out.labels)
    history = trainer.fit(train if how == "set" else (train.images, train.labels), epochs, 32, pair)
    model.save(file)
    return trainer, round(history[-1].validation.accuracy * len(held_out))


def as_files(folder, held_out):
    paths = []
    for i, (image, label) in enumerate(held_out):
        paths.append(folder / str(label) / f"{i:05}.png")
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0]).save(paths[-1])
    return paths


@pytest.mark.parametrize("how", ["set", "arrays"])
@pytest.mark.parametrize("parts", [digits_parts, mnist_parts])
def test_one_model_asked_in_every_way(parts, how, tmp_path, capfd, recwarn):
    train, held_out, name, epochs = parts(tmp_path)
    file, labels = tmp_path / "m.safetensors", held_out.labels
    trainer, right = trained(train, held_out, epochs, file, how)
    assert 0.7 * len(labels) < right < len(labels)  # there is something to get wrong
    pair = (held_out.images, labels)

    def same(predicted):
        assert np.count_nonzero(predicted == labels) == right

    # As it is in memory.
    assert round(trainer.evaluate(pair).accuracy * len(labels)) == right
    assert round(trainer.evaluate(held_out).accuracy * len(labels)) == right
    same(trainer.predict(held_out.images))
    same(trainer.model.predict(held_out))
    same(trainer.model.predict(held_out.images[:, 0]))
    # From files, one by one and as a folder without parts.
    paths = as_files(tmp_path / "scans", held_out)
    same(trainer.predict(paths))
    folder = data.ImageFolder(tmp_path / "scans")
    assert round(trainer.evaluate(folder).accuracy * len(labels)) == right
    # After saving and loading, in the same process and in a new one.
    saved = io.read(file)
    same(saved.predict(paths))
    model = fastcnn.load(file)
    again = fastcnn.Trainer(model, fastcnn.optim.SGD(model.parameters(), lr=0.1))
    assert round(again.evaluate(pair).accuracy * len(labels)) == right
    np.savez(tmp_path / "held_out", images=held_out.images, labels=labels)
    code = f"""
        import fastcnn, numpy as np
        d = np.load({str(tmp_path / "held_out.npz")!r})
        print(np.count_nonzero(fastcnn.io.read({str(file)!r}).predict(d["images"]) == d["labels"]))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert done.stdout.split() == [str(right)], done.stderr
    expected = f"({right:,} of {len(labels):,})"
    evaluate = [sys.executable, "-m", "fastcnn", "evaluate", str(file), name]
    evaluate += [] if name == "digits" else ["--data-dir", str(tmp_path)]
    done = subprocess.run(evaluate, capture_output=True, text=True)
    assert expected in done.stdout, done.stderr
    assert main(["evaluate", str(file), str(tmp_path / "scans")]) == 0
    assert expected in capfd.readouterr().out
    # The command's predictions, image by image.
    some = paths[:100]
    assert main(["predict", str(file), *map(str, some)]) == 0
    lines = [x for x in capfd.readouterr().out.splitlines() if x.startswith(str(tmp_path))]
    assert [int(x.split(": ")[1].split()[0]) for x in lines] == saved.predict(some).tolist()
    assert [str(w.message) for w in recwarn if w.category is UserWarning] == []
