"""Ctrl-C, and the network of so far is kept by the script itself."""

import fastcnn

digits = fastcnn.data.digits()
model = fastcnn.models.create("lenet5")
trainer = fastcnn.Trainer(model, fastcnn.optim.SGD(model.parameters(), lr=0.05, momentum=0.9))
try:
    trainer.fit(digits, 100_000, 32, callbacks=lambda record: print(record.epoch, flush=True))
except KeyboardInterrupt:
    print("stopped after", len(trainer.history), trainer.history.interrupted)
model.save("net.safetensors")
history = trainer.fit(digits, 1, 32)
print("and goes on:", history[0].epoch == trainer.epochs)
