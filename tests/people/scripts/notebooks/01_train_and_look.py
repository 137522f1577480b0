# %%
import fastcnn

digits, test = fastcnn.data.digits(), fastcnn.data.digits(train=False)
fastcnn.manual_seed(0)
model = fastcnn.models.create("lenet5")
trainer = fastcnn.Trainer(model, fastcnn.optim.SGD(model.parameters(), lr=0.05, momentum=0.9))

# %% what fit returns is shown
trainer.fit(digits, epochs=3, batch_size=32, validation_data=test)
# prints: epoch 1/3 loss ... epoch 2/3 loss ... epoch 3/3 loss ... images/s <History: 3 epochs in
# shows: <table> ... epoch</th> ... held-out accuracy</th> ... >1</td> ... >3</td> ... 3 epochs in

# %% it is the last value
history = trainer.history
history
# prints: <History: 3 epochs in
# shows: <table> ... >3</td> ... 3 epochs in

# %% as text
print(history)
# prints: epoch loss accuracy held-out loss held-out accuracy seconds images/s 1 ... 2 ... 3

# %%
history.history["val_accuracy"]
# prints: [0. ... , 0. ... , 0. ... ]

# %%
model
# prints: Sequential( (0): Conv2d(in_channels=1, out_channels=6, ... (11): Linear(in_features=84
# shows: <pre ... (0): Conv2d( ... (11): Linear(

# %%
model.summary((1, 28, 28))
# prints: layer kind output shape parameters multiply-adds 0 Conv2d 1x6x28x28 156 ... 61,706 parameters
# shows: <pre ... 0 Conv2d 1x6x28x28 156 ... 61,706 parameters, all trainable

# %%
model.plan((1, 1, 28, 28))
# prints: <plan: ... steps in ... launches, 1 thread, ... MB; print() shows them>
# shows: <pre ... plan: ... launch layer implementation

# %%
model.plan((1, 1, 28, 28)).describe()
# prints: plan: ... steps in ... launches, 1 thread launch layer implementation
# shows: <pre ... launch layer implementation

# %%
trainer.evaluate(test)
# prints: Evaluation(loss=0. ... , accuracy=0.
