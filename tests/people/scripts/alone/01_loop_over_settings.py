"""Ctrl-C ends it all, not one fit after the other."""

import fastcnn

digits = fastcnn.data.digits()
for lr in (0.01, 0.05, 0.1):
    model = fastcnn.models.create("lenet5")
    trainer = fastcnn.Trainer(model, fastcnn.optim.SGD(model.parameters(), lr=lr))
    print("lr", lr, flush=True)
    trainer.fit(digits, 100_000, 32, callbacks=lambda record: print(record.epoch, flush=True))
    model.save(f"lr-{lr}.safetensors")
print("the end")
