import numpy as np

import fastcnn
from fastcnn import nn

criterion = nn.CrossEntropyLoss()
x, y = fastcnn.data.digits().batch(range(64))


def network():
    fastcnn.manual_seed(0)
    return fastcnn.models.create("lenet5")


# %% the whole batch
big = network()
optimizer = fastcnn.optim.SGD(big.parameters(), lr=0.1, momentum=0.9)
criterion(big(x), y).backward()
optimizer.step()

# %% four parts, whose losses are divided by four
small = network()
optimizer = fastcnn.optim.SGD(small.parameters(), lr=0.1, momentum=0.9)
for i in range(4):
    loss = criterion(small(x[16 * i : 16 * i + 16]), y[16 * i : 16 * i + 16]) / 4
    loss.backward()
optimizer.step()
print(max(np.abs(p.data - q.data).max() for p, q in zip(big.parameters(), small.parameters())) < 1e-6)
# prints: True

# %% without zero_grad the next one is added
before = small[0].weight.grad.copy()
criterion(small(x), y).backward()
once = small[0].weight.grad - before
small.zero_grad()
criterion(small(x), y).backward()
print(np.abs(small[0].weight.grad - once).max() < 1e-6, np.abs(before).max() > 1e-3)
# prints: True True

# %%
optimizer.zero_grad(set_to_none=True)
print(small[0].weight.grad)
# prints: None

# %% layer by layer, too
small.zero_grad()
for _ in range(2):
    criterion(small(x), y)
    small.backward(criterion.backward())
print(np.abs(small[0].weight.grad - 2 * once).max() < 1e-6)
# prints: True

# %% two losses, added
small.zero_grad()
(criterion(small(x), y) + 0.5 * criterion(small(x), y)).backward()
print(np.abs(small[0].weight.grad - 1.5 * once).max() < 1e-6)
# prints: True
