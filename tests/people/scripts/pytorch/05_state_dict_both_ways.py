import numpy as np
import torch

import fastcnn
from fastcnn import nn

x, y = fastcnn.data.digits().batch(range(64))


def network(nn):
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * 14 * 14, 10),
    )


ours, theirs = network(nn), network(torch.nn)

# %% from torch
for _ in range(2):
    theirs(torch.from_numpy(x))  # its norm has seen something
ours.load_state_dict(theirs.state_dict())
ours.eval()
theirs.eval()
print(np.abs(ours(x) - theirs(torch.from_numpy(x)).detach().numpy()).max() < 1e-4)
# prints: True

# %% trained here, back to torch
ours.train()
fastcnn.Trainer(ours, fastcnn.optim.SGD(ours.parameters(), lr=0.05)).fit((x, y), 2, 32)
ours.eval()
theirs.load_state_dict({name: torch.as_tensor(value) for name, value in ours.state_dict().items()})
print(np.abs(ours(x) - theirs(torch.from_numpy(x)).detach().numpy()).max() < 1e-4)
# prints: True

# %% a checkpoint with more around it
ours.load_state_dict({"epoch": 3, "state_dict": theirs.state_dict(), "optimizer": {}})
# warns: UserWarning: load_state_dict: a checkpoint with epoch, state_dict, optimizer; its entry
#   'state_dict' is taken

# %% of nn.DataParallel
wrapped = {f"module.{name}": value for name, value in theirs.state_dict().items()}
ours.load_state_dict(wrapped)

# %% of a network with another head
theirs[5] = torch.nn.Linear(8 * 14 * 14, 100)
before = ours.state_dict()
ours.load_state_dict(theirs.state_dict())
# raises: ValueError: load_state_dict: Sequential does not fit: of the wrong shape: 5.weight (expected
#   10x1568, got 100x1568), 5.bias (expected 10, got 100)

# %% nothing of it was taken
print(all(np.array_equal(before[name], value) for name, value in ours.state_dict().items()))
# prints: True

# %%
torch.save(theirs.state_dict(), "net.pth")
fastcnn.load("net.pth")
# raises: ValueError: net.pth: not a safetensors file (a PyTorch file: torch.load it, build the network,
#   and give its state_dict to model.load_state_dict)

# %%
fastcnn.load_weights(ours, "net.pth")
# raises: ValueError: net.pth: not a safetensors file (a PyTorch file: torch.load it, build the network,
#   and give its state_dict to model.load_state_dict)

# %% a tensor is an array
print(np.array_equal(ours(torch.from_numpy(x)), ours(x)))
# prints: True

# %% torch's optimizer, loss, and network
fastcnn.Trainer(ours, torch.optim.SGD(theirs.parameters(), lr=0.1))
# raises: TypeError: Trainer: expected an SGD optimizer, got torch.optim.sgd.SGD; such as
#   fastcnn.optim.SGD(model.parameters(), lr=0.01)

# %%
fastcnn.Trainer(ours, fastcnn.optim.SGD(ours.parameters(), lr=0.1), torch.nn.CrossEntropyLoss())
# raises: TypeError: Trainer: expected a CrossEntropyLoss as loss, got
#   torch.nn.modules.loss.CrossEntropyLoss; whose gradient a plan contains; with a loss of your own go layer
#   by layer: model(x), the loss, model.backward(dy), optimizer.step()

# %%
fastcnn.Trainer(theirs)
# raises: TypeError: Trainer: expected a Module as model, got torch.nn.modules.container.Sequential; such
#   as fastcnn.models.create('lenet5')

# %%
fastcnn.optim.SGD(theirs.parameters(), lr=0.1)
# raises: TypeError: SGD: expected parameters, such as model.parameters(), got a Parameter of torch

# %%
nn.Sequential(torch.nn.Flatten(), nn.Linear(784, 10))
# raises: TypeError: Sequential: expected modules, got Flatten of torch at position 0
