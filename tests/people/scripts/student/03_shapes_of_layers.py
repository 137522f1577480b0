import fastcnn
from fastcnn import nn

train = fastcnn.data.digits()
x, y = train.batch(range(32))

# %% the flatten is forgotten
net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Linear(8 * 13 * 13, 10))
net(x)
# raises: ValueError: Linear '3': expected input of 2 dimensions (N, features), got 4 (input 32x8x13x13);
#   flatten it first: nn.Flatten(), F.flatten(x)

# %% the features were counted without the pooling
net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 26 * 26, 10))
net(x)
# raises: ValueError: Linear '4': expected 5408 input features, got 1352 (input 32x1352, weight 10x5408)

# %% three channels for grey images
net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 26 * 26, 10))
net(x)
# raises: ValueError: Conv2d '0': expected 3 input channels, got 1 (input 32x1x28x28, weight 8x3x3x3)

# %% the norm has the channels of the layer before
net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(1))
net(x)
# raises: ValueError: BatchNorm2d '1': expected 1 channels, got 8 (input 32x8x26x26, running_mean 1)

# %% too many poolings
net = nn.Sequential(*[nn.MaxPool2d(2) for _ in range(6)])
net(x)
# raises: ValueError: MaxPool2d '4': window 2x2 is larger than the padded input 1x1 (input 32x1x1x1)

# %% nine outputs for ten digits
net = nn.Sequential(nn.Flatten(), nn.Linear(784, 9))
fastcnn.Trainer(net, fastcnn.optim.SGD(net.parameters(), lr=0.1)).fit(train, 1)
# raises: ValueError: labels: expected 0 to 8, got labels[18] = 9

# %% no last layer: the loss gets images
net = nn.Sequential(nn.Conv2d(1, 10, 3))
fastcnn.Trainer(net, fastcnn.optim.SGD(net.parameters(), lr=0.1)).fit(train, 1)
# raises: ValueError: CrossEntropyLoss: expected logits of shape (N, classes), got 64x10x26x26

# %% and now it is right
net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 13 * 13, 10))
print(net(x).shape)
# prints: (32, 10)
