import numpy as np

import fastcnn

train = fastcnn.data.digits()
model = fastcnn.models.create("lenet5")
optimizer = fastcnn.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

# %%
for group in optimizer.param_groups:
    group["lr"] *= 0.1
print(round(optimizer.lr, 6))
# prints: 0.01

# %% it is what the next step takes
optimizer.param_groups[0]["lr"] = 0.0
before = model.state_dict()
fastcnn.Trainer(model, optimizer).fit(train, 1)
print(all(np.array_equal(before[name], value) for name, value in model.state_dict().items()))
# prints: True

# %%
optimizer.param_groups[0]["learning_rate"] = 0.1
# raises: KeyError: "SGD: a group has lr, momentum, dampening, weight_decay, nesterov; got
#   'learning_rate'"

# %%
optimizer.learning_rate = 0.1
# raises: AttributeError: SGD: 'learning_rate' cannot be set; the learning rate is lr

# %%
optimizer.param_groups[0]["lr"] = "0.1"
# raises: ValueError: SGD: expected lr to be a finite number and not negative, got '0.1'

# %%
print(optimizer.param_groups[0].keys())
# prints: 'lr': 0.0, 'momentum': 0.9

# %% two groups
fastcnn.optim.SGD([{"params": model[0].parameters(), "lr": 0.1}, {"params": model[3].parameters()}], lr=0.01)
# raises: TypeError: SGD: expected parameters, such as model.parameters(), got a dict; there are no
#   groups: one learning rate holds for all

# %% a rate that is set while it trains stays
optimizer.lr = 0.08
history = fastcnn.Trainer(model, optimizer).fit(
    train, 3, callbacks=lambda record: optimizer.param_groups[0].update(lr=optimizer.lr / 2)
)
print(history["lr"], optimizer.lr)
# prints: [0.08, 0.04, 0.02] 0.01
