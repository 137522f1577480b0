import numpy as np

import fastcnn
from fastcnn import nn

train = fastcnn.data.digits()
model = fastcnn.models.create("lenet5")

# %% tanh does not overflow: the history shows it
optimizer = fastcnn.optim.SGD(model.parameters(), lr=1e12, momentum=0.9)
history = fastcnn.Trainer(model, optimizer).fit(train, 3, 32)
print(history[-1].loss > 1e6, history[-1].accuracy < 0.5)
# prints: True True

# %%
net = nn.Sequential(nn.Flatten(), nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 10))
trainer = fastcnn.Trainer(net, fastcnn.optim.SGD(net.parameters(), lr=1e6))
trainer.fit(train, 3, 32)
# raises: FloatingPointError: the loss is ... at step ... (epoch 1, batch ... ); first value that is not
#   finite: Linear '1' (weight is not finite); the weights have been updated from it; a smaller learning
#   rate than 1e+06 may help

# %%
print(len(trainer.history), trainer.history)
# prints: 0 epoch loss accuracy

# %%
fastcnn.optim.SGD(net.parameters(), lr=-0.1)
# raises: ValueError: SGD: expected lr to be a finite number and not negative, got -0.1

# %%
fastcnn.optim.SGD(net.parameters(), lr="0.1")
# raises: ValueError: SGD: expected lr to be a finite number and not negative, got '0.1'

# %%
fastcnn.optim.SGD(net.parameters(), lr=np.nan)
# raises: ValueError: SGD: expected lr to be a finite number and not negative, got nan

# %%
fastcnn.optim.SGD(net, lr=0.1)
# raises: TypeError: SGD: expected parameters, such as model.parameters(), got a Flatten

# %%
fastcnn.optim.SGD(lr=0.1)
# raises: TypeError: SGD.__init__() missing 1 required positional argument: 'params'
