import fastcnn
from fastcnn import nn

net = fastcnn.models.create("lenet5")
train = fastcnn.data.digits()
optimizer = fastcnn.optim.SGD(net.parameters(), lr=0.05)
criterion = nn.CrossEntropyLoss()

# %%
net(None)
# raises: TypeError: Sequential: expected a float32 NumPy array for input, got None

# %%
net()
# raises: TypeError: Sequential: expected an input, got none

# %%
net("digits")
# raises: TypeError: Sequential: expected a float32 NumPy array for input, got str

# %%
net(train)
# raises: TypeError: Sequential: expected a float32 NumPy array for input, got ArrayDataset

# %%
criterion(None, train.labels)
# raises: TypeError: CrossEntropyLoss: expected a float32 NumPy array for logits, got None

# %%
fastcnn.Trainer(net, "sgd")
# raises: TypeError: Trainer: expected an SGD optimizer, got 'sgd'; such as
#   fastcnn.optim.SGD(model.parameters(), lr=0.01)

# %%
fastcnn.Trainer(net, fastcnn.optim.SGD)
# raises: TypeError: Trainer: expected an SGD optimizer, got the class SGD; write SGD(...)

# %%
fastcnn.Trainer(net, optimizer, "cross_entropy")
# raises: TypeError: Trainer: expected a CrossEntropyLoss as loss, got 'cross_entropy'; whose gradient a
#   plan contains; with a loss of your own go layer by layer: model(x), the loss, model.backward(dy),
#   optimizer.step()

# %%
fastcnn.Trainer(optimizer, net)
# raises: TypeError: Trainer: expected a Module as model, got fastcnn.optim.SGD; such as
#   fastcnn.models.create('lenet5')

# %%
fastcnn.Trainer("lenet5", optimizer)
# raises: TypeError: Trainer: expected a Module as model, got 'lenet5'; such as
#   fastcnn.models.create('lenet5')

# %%
trainer = fastcnn.Trainer(net, optimizer)
trainer.fit()
# raises: TypeError: Trainer.fit() missing 1 required positional argument: 'x'

# %%
trainer.fit("digits", 5)
# raises: TypeError: expected a data set or a pair (images, labels), got the text 'digits': give
#   fastcnn.data.digits(), or fastcnn.data.ImageFolder(path)

# %%
trainer.fit(train, "5")
# raises: TypeError: expected labels or epochs as the second argument, got the text '5'

# %%
trainer.fit(train, epochs=1.5)
# raises: TypeError: epochs must be a whole number of at least 1, got 1.5

# %%
trainer.fit(train, 1, batch_size=0)
# raises: ValueError: batch_size must be at least 1, got 0

# %%
trainer.fit(train, 1, schedule="cosin")
# raises: ValueError: schedule: expected one of none, cosine, steps, or a function, got 'cosin'

# %%
trainer.fit(train, 1, callbacks="early stopping")
# raises: TypeError: callbacks: expected functions that take an EpochRecord, got str (early stopping, best
#   weights: see the examples of Trainer.fit)

# %%
trainer.evaluate("digits")
# raises: TypeError: expected a data set or a pair (images, labels), got the text 'digits': give
#   fastcnn.data.digits(), or fastcnn.data.ImageFolder(path)

# %%
trainer.evaluate(None)
# raises: TypeError: expected a data set or a pair (images, labels), got None

# %%
fastcnn.Trainer(net).fit(train, 1)
# raises: ValueError: Trainer.fit: the Trainer has no optimizer: Trainer(model,
#   fastcnn.optim.SGD(model.parameters(), lr=0.01))
