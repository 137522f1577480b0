"""Train LeNet-5 on the bundled digits, save it, and read a digit with the file."""

import fastcnn

fastcnn.manual_seed(0)
model = fastcnn.models.create("lenet5")
optimizer = fastcnn.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
trainer = fastcnn.Trainer(model, optimizer, fastcnn.nn.CrossEntropyLoss())

train, held_out = fastcnn.data.digits(), fastcnn.data.digits(train=False)
history = trainer.fit(
    train, epochs=30, batch_size=32, validation_data=held_out, schedule=fastcnn.train.cosine
)
print(history)
print(f"held-out accuracy: {100 * trainer.evaluate(held_out).accuracy:.2f} %")

model.save("digits.safetensors")
saved = fastcnn.io.read("digits.safetensors")
print("read as", saved.predict(held_out.images[:5]), "- written were", held_out.labels[:5])
