# %%
import fastcnn
from fastcnn import nn

digits = fastcnn.data.digits()

# %%
model = fastcnn.models.create("lenet5")
optimizer = fastcnn.optim.SGD(model.parameters(), lr=0.05)

# %%
trainer = fastcnn.Trainer(model, optimizer)
trainer.fit(digits, 1, 32)
# prints: epoch 1/1 loss ... <History: 1 epoch in
# shows: <table> ... >1</td>

# %% run again, it goes on
trainer.fit(digits, 1, 32)
# prints: epoch 2/2 loss ... <History: 1 epoch in
# shows: <table> ... >2</td>

# %% the cell of the model, again
model = fastcnn.models.create("lenet5")

# %%
trainer = fastcnn.Trainer(model, optimizer)
# raises: ValueError: Trainer: none of the optimizer's parameters belong to the model (was the model made
#   anew?); make the optimizer of model.parameters()


# %% a class made anew, and an old object of it
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(784, 10)

    def forward(self, x):
        return self.fc(x.flatten(1))


net = Net()


# %%
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(784, 10)

    def forward(self, x):
        return self.fc(x.flatten(1)).relu()


x, y = digits.batch(range(4))
print((net(x) < 0).any(), (Net()(x) < 0).any())
# prints: True False
