import numpy as np

from fastcnn import nn

x = np.zeros((4, 1, 28, 28), np.float32)


# %%
class Net(nn.Module):
    def __init__(self):
        self.conv = nn.Conv2d(1, 8, 3)

    def forward(self, x):
        return self.conv(x)


net = Net()
# raises: AttributeError: Net: call super().__init__() before setting attributes


# %%
class Net2(nn.Module):
    def __init__(self):
        self.size = 28

    def forward(self, x):
        return x


net = Net2()
# raises: AttributeError: Net2: call super().__init__() before setting attributes


# %%
class Net3(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3)

    def forwards(self, x):
        return self.conv(x)


Net3()(x)
# raises: NotImplementedError: Net3 has no forward()


# %%
class Net4(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3)

    def forward(self):
        return self.conv(x)


Net4()(x)
# raises: TypeError: Net4.forward does not take 1 input ... write def forward(self, x), with a name for each input


# %%
class Net5(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3)

    def forward(self, x):
        return self.conv2(x)


Net5()(x)
# raises: AttributeError: Net5 has no attribute 'conv2'
