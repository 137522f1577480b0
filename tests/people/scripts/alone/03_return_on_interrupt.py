"""Asked to, fit returns what was done."""

import fastcnn

digits = fastcnn.data.digits()
model = fastcnn.models.create("lenet5")
trainer = fastcnn.Trainer(model, fastcnn.optim.SGD(model.parameters(), lr=0.05))
history = trainer.fit(
    digits, 100_000, 32, callbacks=lambda record: print(record.epoch, flush=True), on_interrupt="return"
)
print("returned", history.interrupted, len(history) > 0)
