"""A step that takes long: the second Ctrl-C does not wait for it."""

import time

import numpy as np

import fastcnn


class Slow:
    classes = ()

    def __len__(self):
        return 64

    def batch(self, indices, key=None):
        print("reading", flush=True)
        time.sleep(60)
        return np.zeros((len(indices), 1, 28, 28), np.float32), np.zeros(len(indices), np.int64)


model = fastcnn.models.create("lenet5")
fastcnn.Trainer(model, fastcnn.optim.SGD(model.parameters(), lr=0.05)).fit(Slow(), 1)
