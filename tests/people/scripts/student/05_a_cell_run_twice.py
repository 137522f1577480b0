import fastcnn

train = fastcnn.data.digits()

# %%
model = fastcnn.models.create("lenet5")
optimizer = fastcnn.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

# %% only this line once more
model = fastcnn.models.create("lenet5")

# %%
trainer = fastcnn.Trainer(model, optimizer)
# raises: ValueError: Trainer: none of the optimizer's parameters belong to the model (was the model made
#   anew?); make the optimizer of model.parameters()

# %%
trainer = fastcnn.Trainer(model)
trainer.optimizer = optimizer
# raises: ValueError: Trainer: none of the optimizer's parameters belong to the model (was the model made
#   anew?); make the optimizer of model.parameters()

# %% in a loop of one's own it is as in PyTorch: the step is that of the old model
criterion = fastcnn.nn.CrossEntropyLoss()
x, y = train.batch(range(32))
loss = criterion(model(x), y)
loss.backward()
before = model.state_dict()
optimizer.step()
print(all((before[name] == value).all() for name, value in model.state_dict().items()))
# prints: True

# %% the cell with both
model = fastcnn.models.create("lenet5")
optimizer = fastcnn.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
history = fastcnn.Trainer(model, optimizer).fit(train, 2, 32)
print(history[-1].accuracy > 0.8)
# prints: True
