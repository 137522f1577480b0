import numpy as np

import fastcnn
from fastcnn import functional as F
from fastcnn import nn

x = np.zeros((4, 1, 28, 28), np.float32)


# %%
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.convs = [nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3)]
        self.fc = nn.Linear(8 * 24 * 24, 10)

    def forward(self, x):
        for conv in self.convs:
            x = F.relu(conv(x))
        return self.fc(F.flatten(x))


net = Net()
net(x)
# raises: ValueError: Net: forward uses a Conv2d with parameters that is no part of the network, so it
#   would never be trained: make it in __init__ as an attribute, a list of layers as nn.Sequential(*layers)

# %%
net.summary((1, 28, 28))
# raises: ValueError: Net: forward uses a Conv2d with parameters that is no part of the network, so it
#   would never be trained: make it in __init__ as an attribute, a list of layers as nn.Sequential(*layers)

# %%
trainer = fastcnn.Trainer(net, fastcnn.optim.SGD(net.parameters(), lr=0.1))
trainer.fit(fastcnn.data.digits(), 1)
# raises: ValueError: Net: forward uses a Conv2d with parameters that is no part of the network, so it
#   would never be trained: make it in __init__ as an attribute, a list of layers as nn.Sequential(*layers)

# %%
nn.ModuleList([nn.Conv2d(1, 8, 3)])
# raises: AttributeError: fastcnn.nn has no ModuleList (here: nn.Sequential(*layers) or an attribute for
#   each layer); layers: AdaptiveAvgPool2d


# %%
class InForward(nn.Module):
    def forward(self, x):
        return nn.Conv2d(1, 8, 3)(x)


InForward()(x)
# raises: ValueError: InForward: forward uses a Conv2d with parameters that is no part of the network, so
#   it would never be trained: make it in __init__ as an attribute, a list of layers as
#   nn.Sequential(*layers)


# %%
class Right(nn.Module):
    def __init__(self):
        super().__init__()
        self.convs = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3))
        self.fc = nn.Linear(8 * 24 * 24, 10)

    def forward(self, x):
        for conv in self.convs:
            x = F.relu(conv(x))
        return self.fc(F.flatten(x))


print(Right()(x).shape, Right().parameter_count())
# prints: (4, 10) 46754
