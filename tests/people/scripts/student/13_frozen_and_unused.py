import numpy as np

import fastcnn
from fastcnn import functional as F
from fastcnn import nn

train = fastcnn.data.digits()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 5)
        self.norm = nn.BatchNorm2d(8)
        self.unused = nn.Conv2d(8, 8, 3)
        self.fc = nn.Linear(8 * 12 * 12, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.norm(self.conv(x))), 2)
        return self.fc(F.flatten(x))


# %% a layer that forward does not use
net = Net()
unused = net.unused.weight.data.copy()
history = fastcnn.Trainer(
    net, fastcnn.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=0.001)
).fit(train, 1)
print(history[0].accuracy > 0.1, (net.unused.weight.data == unused).all())
# prints: True True

# %%
net.summary((1, 28, 28))
# prints: unused Conv2d, not used ... 584 ... 12,338 parameters, all trainable

# %% a frozen layer and its statistics
net.conv.requires_grad_(False)
net.norm.requires_grad_(False)
net.norm.eval()
before = net.state_dict()
net.fc = nn.Linear(8 * 12 * 12, 10)
trainer = fastcnn.Trainer(net, fastcnn.optim.SGD(net.parameters(), lr=0.05))
trainer.fit(train, 1)
after = net.state_dict()
print([name for name in before if not np.array_equal(before[name], after[name])])
# prints: ['fc.weight', 'fc.bias']

# %% a new head after the optimizer was made
net.fc = nn.Linear(8 * 12 * 12, 10)
trainer.fit(train, 1)
# warns: UserWarning: Trainer: 2 trainable parameters of the model will not be trained, for the optimizer
#   does not have them: fc.weight, fc.bias; make the optimizer of model.parameters(), or freeze them with
#   requires_grad_(False)

# %% everything frozen
net.requires_grad_(False)
trainer = fastcnn.Trainer(net, fastcnn.optim.SGD(net.parameters(), lr=0.05))
trainer.fit(train, 1)
# warns: UserWarning: Trainer.fit: all parameters are frozen, so only running statistics can change;
#   requires_grad_(True) unfreezes what is to be trained

# %% the optimizer of half of the network
net.requires_grad_(True)
trainer = fastcnn.Trainer(net, fastcnn.optim.SGD(net.fc.parameters(), lr=0.05))
# warns: UserWarning: Trainer: 6 trainable parameters of the model will not be trained, for the optimizer
#   does not have them: conv.weight, conv.bias, norm.weight, norm.bias, unused.weight, and 1 more; make the
#   optimizer of model.parameters(), or freeze them with requires_grad_(False)
