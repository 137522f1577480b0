"""Images of your own as NumPy arrays: here the four quarters of a square, told apart by brightness."""

import numpy as np

import fastcnn
from fastcnn import nn

rng = np.random.default_rng(0)
labels = np.arange(400) % 4
images = rng.integers(0, 60, (400, 1, 16, 16), dtype=np.uint8)
for image, label in zip(images, labels, strict=True):
    top, left = 8 * (label // 2), 8 * (label % 2)
    image[0, top : top + 8, left : left + 8] += 120

fastcnn.manual_seed(0)
model = nn.Sequential(
    nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 8 * 8, 4)
)
trainer = fastcnn.Trainer(model, fastcnn.optim.SGD(model.parameters(), lr=0.05, momentum=0.9))
print(trainer.fit((images[:300], labels[:300]), epochs=3, validation_data=(images[300:], labels[300:])))
print("predicted", trainer.predict(images[300:308]), "of", labels[300:308])
