"""A script of its own: workers import it."""

import multiprocessing
import sys

import numpy as np

import fastcnn

model = fastcnn.load("lenet5-digits.safetensors")
x, _ = fastcnn.data.digits(train=False).batch(range(355))


def work(part):
    return model(part)


def given(job):
    net, part = job
    return net.predict(part)


if __name__ == "__main__":
    want = np.concatenate([model(x[:100]), model(x[100:])])  # threads have run before the fork
    for method in ("fork", "spawn"):
        if method not in multiprocessing.get_all_start_methods():
            continue
        with multiprocessing.get_context(method).Pool(2) as pool:
            parts = pool.map(work, [x[:100], x[100:]])
            print(method, np.array_equal(np.concatenate(parts), want), flush=True)
            classes = pool.map(given, [(model, x[:50]), (model, x[50:])])
            print(method, np.array_equal(np.concatenate(classes), want.argmax(axis=1)), flush=True)
    sys.exit(0)
