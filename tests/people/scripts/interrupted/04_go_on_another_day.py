import numpy as np

import fastcnn

digits = fastcnn.data.digits()


def network():
    fastcnn.manual_seed(0)
    model = fastcnn.models.create("lenet5")
    return fastcnn.Trainer(model, fastcnn.optim.SGD(model.parameters(), lr=0.05, momentum=0.9))


# %% four epochs, and two and two with a night between them
whole = network()
whole.fit(digits, 4)
first = network()
first.fit(digits, 2)
np.savez("run.npz", **first.state_dict())
second = network()
second.load_state_dict(np.load("run.npz"))
history = second.fit(digits, 2)
print(history[0].epoch, history["loss"] == whole.history["loss"][2:])
# prints: 3 True

# %%
weights = whole.model.state_dict(), second.model.state_dict()
print(all(np.array_equal(value, weights[1][name]) for name, value in weights[0].items()))
# prints: True

# %% the model's state is not the trainer's
second.load_state_dict(whole.model.state_dict())
# raises: ValueError: Trainer.load_state_dict: expected what Trainer.state_dict gave; missing: steps,
#   epochs; unexpected: 0.weight, 0.bias, 3.weight, 3.bias, 7.weight, 7.bias, 9.weight, 9.bias, 11.weight,
#   11.bias

# %% of another network
other = fastcnn.models.create("resnet20_cifar")
fastcnn.Trainer(other, fastcnn.optim.SGD(other.parameters(), lr=0.1)).load_state_dict(np.load("run.npz"))
# raises: ValueError: load_state_dict: SGD of 59 parameters does not fit: of the wrong shape:
#   momentum_buffer.0 (expected 16x3x3x3, got 6x1x5x5), momentum_buffer.1 (expected 16, got 6),
#   momentum_buffer.2 (expected 16, got 16x6x5x5), momentum_buffer.3 (expected 16x16x3x3, got 16),
#   momentum_buffer.4 (expected

# %% in the middle of fit
second.fit(digits, 1, callbacks=lambda record: second.load_state_dict(first.state_dict()))
# raises: RuntimeError: Trainer.load_state_dict: fit is running (weights alone: model.load_state_dict)
