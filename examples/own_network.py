"""A network of your own, with a branch and an addition: ordinary Python, traced once into a plan."""

import numpy as np

import fastcnn
from fastcnn import functional as F
from fastcnn import nn


class Residual(nn.Module):
    """A convolution around which its input is carried."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False, init="he")
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x):
        return F.relu(self.norm(self.conv(x)) + x)


class Network(nn.Module):
    """A stem, two residual blocks, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, stride=2, padding=1, init="he")
        self.blocks = nn.Sequential(Residual(16), nn.MaxPool2d(2), Residual(16))
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(16 * 7 * 7, 10)

    def forward(self, x):
        return self.linear(self.flatten(self.blocks(F.relu(self.stem(x)))))


fastcnn.manual_seed(0)
model = Network()
print(model.summary((1, 28, 28)))

optimizer = fastcnn.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)
trainer = fastcnn.Trainer(model, optimizer)
train, held_out = fastcnn.data.digits(), fastcnn.data.digits(train=False)
print(trainer.fit(train, epochs=5, batch_size=32, validation_data=held_out))

# The same numbers up to rounding, one after the other: forward, loss, backward, update.
criterion = nn.CrossEntropyLoss()
x, y = train.batch(np.arange(32))
model.train()
loss = criterion(model(x), y)
loss.backward()
print(f"loss {loss:.4f}; gradient of the last bias {model.linear.bias.grad.shape}")
optimizer.step()
optimizer.zero_grad()

# And with the gradient of the input, which is handed from part to part.
criterion(model(x), y)
print(f"gradient of the input {model.backward(criterion.backward()).shape}")
