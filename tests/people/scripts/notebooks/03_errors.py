# %%
import fastcnn
from fastcnn import nn

digits = fastcnn.data.digits()

# %%
net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Linear(8 * 26 * 26, 10))
net(digits.batch(range(4))[0])
# raises: ValueError: Linear '1': expected input of 2 dimensions (N, features), got 4 (input 4x8x26x26);
#   flatten it first: nn.Flatten(), F.flatten(x)

# %%
fastcnn.Trainer(net, "sgd")
# raises: TypeError: Trainer: expected an SGD optimizer, got 'sgd'

# %%
net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
trainer = fastcnn.Trainer(net, fastcnn.optim.SGD(net.parameters(), lr=0.1))
net.requires_grad_(False)
history = trainer.fit(digits, 1, progress=False)
# warns: UserWarning: Trainer.fit: all parameters are frozen

# %% Kernel / Interrupt, here sent by the cell itself
import os
import signal

net.requires_grad_(True)
trainer.fit(digits, 1000, callbacks=lambda record: os.kill(os.getpid(), signal.SIGINT), progress=False)
# prints: stopping after this step; Ctrl-C again stops at once
# raises: KeyboardInterrupt: training ended in epoch ... ; trainer.history has what was done

# %% the kernel and what was trained are there
print(trainer.history.interrupted, len(trainer.history) < 1000, trainer.evaluate(digits).accuracy > 0.5)
# prints: True True True
