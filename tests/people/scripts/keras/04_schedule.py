import fastcnn

digits = fastcnn.data.digits()
model = fastcnn.models.create("lenet5")
optimizer = fastcnn.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
trainer = fastcnn.Trainer(model, optimizer)


# %% LearningRateScheduler's function
def scheduler(epoch, lr):
    return lr if epoch < 2 else lr * 0.5


history = trainer.fit(digits, 4, schedule=scheduler)
print(history["lr"], optimizer.lr)
# prints: [0.1, 0.1, 0.05, 0.025] 0.025

# %% by name
optimizer.lr = 0.1
history = trainer.fit(digits, 2, schedule="cosine")
print(history["lr"][0] > history["lr"][1], optimizer.lr)
# prints: True 0.1

# %%
trainer.fit(digits, 2, schedule="exponential")
# raises: ValueError: schedule: expected one of none, cosine, steps, or a function, got 'exponential'

# %%
trainer.fit(digits, 2, schedule=0.5)
# raises: TypeError: schedule: expected a function of the part of the training that is done (0 to 1), or
#   of (epoch, lr), or a name of SCHEDULES, got 0.5

# %%
trainer.fit(digits, 2, schedule=lambda epoch: 0.1**epoch)
# raises: TypeError: schedule: expected a function of the part of the training that is done (0 to 1), or
#   of (epoch, lr), got one of (epoch); write lambda done: f(int(done * epochs + 1e-9))

# %%
trainer.fit(digits, 2, schedule=lambda epoch, lr: -lr)
# raises: ValueError: schedule: expected a finite number that is not negative, got -0.1

# %%
trainer.fit(digits, 2, schedule=lambda epoch, lr: print(epoch, lr))
# prints: 0 0.1
# raises: ValueError: schedule: expected a finite number that is not negative, got None

# %%
trainer.fit(digits, 2, schedule=lambda a, b, c: 1)
# raises: TypeError: schedule: expected a function of the part of the training that is done (0 to 1), or
#   of (epoch, lr), got one of (a, b, c)

# %% the rate is what it was
print(optimizer.lr)
# prints: 0.1

# %% step by step, of the part that is done
history = trainer.fit(digits, 4, schedule=fastcnn.train.step_decay(0.1, at=(0.5,)))
print([round(lr, 3) for lr in history["lr"]])
# prints: [0.1, 0.1, 0.01, 0.01]
