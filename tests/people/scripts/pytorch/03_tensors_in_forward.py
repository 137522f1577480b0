import numpy as np

import fastcnn
from fastcnn import functional as F
from fastcnn import nn

images, _ = fastcnn.data.digits().batch(range(8))


# %%
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc = nn.Linear(256, 10)

    def forward(self, x):
        x = x - 0.5
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = self.conv2(x).relu()
        x = F.max_pool2d(x, 2, 2)
        a, b = x.flatten(1), x.view(x.size(0), -1)
        c = x.reshape(x.shape[0], 256)
        return F.softmax(self.fc((a + b + c) / 3), dim=1)


net = Net()
p = net(images)
print(p.shape, np.allclose(p.sum(axis=1), 1))
# prints: (8, 10) True


# %% slices of pixels: the differences of neighbours
class Edges(nn.Module):
    def forward(self, x):
        return x[:, :, 1:] - x[:, :, :-1]


print(np.array_equal(Edges()(images), images[:, :, 1:] - images[:, :, :-1]))
# prints: True

# %% batches of another size, and one image
print(net(images[:3]).shape, np.allclose(net(images[:1]), p[:1], atol=1e-6))
# prints: (3, 10) True


# %%
class Wrong(nn.Module):
    def forward(self, x):
        return x.view(-1, 256)


Wrong()(images)
# raises: ValueError: reshape: 8x1x28x28 to -1, 256: would mix images: the first size must stay 8 (or -1),
#   and the others must hold 784 numbers


# %%
class Gate(nn.Module):
    def forward(self, x):
        return x * x


Gate()(images)
# raises: TypeError: a traced value: * takes a number, got a Value (functional.add and concat join values;
#   products and quotients of two are not there)


# %%
class Branch(nn.Module):
    def forward(self, x):
        if x.mean() > 0:
            return x
        return -x


Branch()(images)
# raises: ValueError: mean: expected images and dim=(2, 3), got 8x1x28x28 and dim=None


# %%
class Maximum(nn.Module):
    def forward(self, x):
        if x.max() > 0:
            return x
        return -x


Maximum()(images)
# raises: AttributeError: a traced value has no 'max': in forward() there are flatten, view, reshape,
#   size, mean, relu, tanh, sigmoid, softmax, +, -, slices, * and / by numbers; the rest is in
#   fastcnn.functional


# %%
class Permuted(nn.Module):
    def forward(self, x):
        return x.permute(0, 2, 3, 1)


Permuted()(images)
# raises: AttributeError: a traced value has no 'permute': in forward() there are flatten, view, reshape,
#   size, mean, relu, tanh, sigmoid, softmax, +, -, slices, * and / by numbers; the rest is in
#   fastcnn.functional


# %%
class Numpy(nn.Module):
    def forward(self, x):
        return np.maximum(x, 0)


Numpy()(images)
# raises: TypeError: a traced value holds no numbers, so numpy.maximum cannot take it: use
#   fastcnn.functional in forward(), and model.features_at(x, names) for what is inside a network


# %%
class PerImage(nn.Module):
    def forward(self, x):
        return x[0]


PerImage()(images)
# raises: TypeError: a traced value of shape 8x1x28x28: expected slices, got 0 (x[:, 3:4] keeps the
#   dimension that x[:, 3] would drop)
