import fastcnn
from fastcnn import nn
from fastcnn.data import Loader

train, test = fastcnn.data.digits(), fastcnn.data.digits(train=False)
fastcnn.manual_seed(0)


class LeNet(nn.Module):
    def __init__(self):
        super(LeNet, self).__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, kernel_size=5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(nn.Linear(400, 120), nn.ReLU(inplace=True), nn.Linear(120, 10))

    def forward(self, x):
        x = self.features(x)
        x = x.view(-1, 400)
        return self.classifier(x)


# %% the loop of every tutorial
model = LeNet()
criterion = nn.CrossEntropyLoss()
optimizer = fastcnn.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
loader = Loader(train, batch_size=32, shuffle=True)

for epoch in range(8):
    model.train()
    running = 0.0
    for images, labels in loader:
        optimizer.zero_grad()
        outputs = model(images)
        loss = criterion(outputs, labels)
        loss.backward()
        optimizer.step()
        running += loss.item()
    print(f"epoch {epoch + 1}: {running / len(loader):.3f}")
# prints: epoch 1: ... epoch 8:

# %% each pass has an order of its own
orders = [[y.tolist() for _, y in loader] for _ in range(2)]
print(orders[0] != orders[1], sorted(sum(orders[0], [])) == sorted(train.labels.tolist()))
# prints: True True

# %% its evaluation
model.eval()
correct = total = 0
for images, labels in Loader(test, batch_size=100):
    predicted = model(images).argmax(1)
    total += labels.shape[0]
    correct += (predicted == labels).sum().item()
print(total, correct / total > 0.93)
# prints: 355 True

# %% loss.item(), float(loss) and formatting
print(isinstance(loss.item(), float), float(loss) == loss.item(), f"{loss:.3f}" == f"{loss.item():.3f}")
# prints: True True True

# %% backward twice
loss.backward()
# raises: ValueError: LeNet.backward: this result was gone back from already (add losses before, (a +
#   b).backward()); call the module again
