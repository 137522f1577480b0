import copy

import numpy as np

import fastcnn

train, test = fastcnn.data.digits(), fastcnn.data.digits(train=False)
fastcnn.manual_seed(0)
model = fastcnn.models.create("lenet5")
optimizer = fastcnn.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
trainer = fastcnn.Trainer(model, optimizer)

# %% a copy of the best one
best_accuracy, best = 0.0, None
for epoch in range(4):
    trainer.fit(train, 1, 32)
    accuracy = trainer.evaluate(test).accuracy
    if accuracy > best_accuracy:
        best_accuracy, best = accuracy, copy.deepcopy(model)
optimizer.lr = 50.0  # and then it is lost
try:
    trainer.fit(train, 1, 32)
except FloatingPointError:
    pass
print(fastcnn.Trainer(best).evaluate(test).accuracy == best_accuracy, best_accuracy > 0.8)
# prints: True True
print(trainer.evaluate(test).accuracy < best_accuracy)
# prints: True

# %% the same with arrays
state = copy.deepcopy(best.state_dict())
model.load_state_dict(state)
print((model.predict(test) == best.predict(test)).all())
# prints: True

# %% a copy is trained by itself
mine = copy.deepcopy(best)
fastcnn.Trainer(mine, fastcnn.optim.SGD(mine.parameters(), lr=0.01)).fit(train, 1)
print(
    np.array_equal(best[0].weight.data, state["0.weight"]),
    np.array_equal(mine[0].weight.data, state["0.weight"]),
)
# prints: True False

# %% the copy's old optimizer is another one's
fastcnn.Trainer(copy.deepcopy(best), optimizer)
# raises: ValueError: Trainer: none of the optimizer's parameters belong to the model (was the model made
#   anew?); make the optimizer of model.parameters()

# %% model and optimizer together
pair = copy.deepcopy((model, optimizer))
fastcnn.Trainer(*pair)
# prints: Trainer(Sequential, SGD(lr=50, momentum=0.9
