import numpy as np

import fastcnn
from fastcnn import nn

train, test = fastcnn.data.digits(), fastcnn.data.digits(train=False)
fastcnn.manual_seed(1)
net = nn.Sequential(
    nn.Conv2d(1, 8, 5),
    nn.BatchNorm2d(8),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Linear(8 * 12 * 12, 10),
)
trainer = fastcnn.Trainer(net, fastcnn.optim.SGD(net.parameters(), lr=0.05, momentum=0.9))
trainer.fit(train, 3, 64)
x, y = test.batch(range(len(test)))

# %% eval() is forgotten: evaluate and predict do not need it, and change nothing
before = net.state_dict()
right = (trainer.predict(test) == y).mean()
print(net.training, right == trainer.evaluate(test).accuracy)
# prints: True True
print(all(np.array_equal(before[name], value) for name, value in net.state_dict().items()))
# prints: True

# %% a call in training mode takes the batch's statistics
print(np.array_equal(net(x[:1]), net(x)[:1]))
# prints: False

# %% one image at a time, sorted by class: as it is in training
print(np.mean([net(x[i : i + 1]).argmax() == y[i] for i in range(100)]) < right)
# prints: True

# %% eval() as the books say
net.load_state_dict(before)
net.eval()
print((net(x).argmax(axis=1) == y).mean() == right)
# prints: True

# %% and training goes on, in training mode, whatever was said last
trainer.fit(train, 1, 64)
print(net.training, np.array_equal(before["1.running_mean"], net.state_dict()["1.running_mean"]))
# prints: False False

# %% backward after eval()
criterion = nn.CrossEntropyLoss()
loss = criterion(net(x), y)
loss.backward()
# raises: ValueError: loss.backward: the loss was not computed from the result of a module in training
#   mode, unchanged since that module returned it: call model.train() before model(x), and compute what
#   comes after the model in its forward
