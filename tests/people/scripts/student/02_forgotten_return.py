import numpy as np

from fastcnn import functional as F
from fastcnn import nn

x = np.zeros((4, 1, 28, 28), np.float32)


# %%
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3)

    def forward(self, x):
        x = F.relu(self.conv(x))


net = Net()
net(x)
# raises: TypeError: Net.forward: expected one traced value as result, got None: is a return missing?


# %%
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3)

    def forward(self, x):
        F.relu(self.conv(x))


nn.Sequential(Block(), nn.Flatten(), nn.Linear(8 * 26 * 26, 10))(x)
# raises: TypeError: Block '0'.forward: expected one traced value as result, got None: is a return
#   missing?


# %%
class Printed(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3)

    def forward(self, x):
        x = self.conv(x)
        print(x.shape)
        return x


y = Printed()(x)
# prints: (4, 8, 26, 26)


# %%
class Both(nn.Module):
    def forward(self, x):
        return F.relu(x), x


Both()(x)
# raises: TypeError: Both.forward: expected one traced value as result, got tuple; model.features_at(x,
#   names) gives what parts put out
