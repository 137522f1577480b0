import fastcnn
import fastcnn.nn as nn
import fastcnn.nn.functional as F

model = fastcnn.models.create("lenet5")

# %%
device = "cuda" if fastcnn.cuda.is_available() else "cpu"
# raises: AttributeError: fastcnn has no cuda (here: it computes on the CPU); names: History

# %%
model.to("cuda")
# raises: ValueError: Sequential.to: fastcnn computes in float32 on the CPU; expected 'cpu' or float32,
#   got 'cuda'

# %%
model.cuda()
# raises: ValueError: Sequential.cuda: fastcnn computes in float32 on the CPU; expected no other device

# %%
model.half()
# raises: ValueError: Sequential.half: fastcnn computes in float32 on the CPU; expected no other type

# %%
print(model.to("cpu") is model, model.train() is model, model.eval().training)
# prints: True True False

# %%
with fastcnn.no_grad():
    pass
# raises: AttributeError: fastcnn has no no_grad (here: model.eval(): nothing is kept for a backward pass
#   then); names: History

# %%
fastcnn.tensor([1.0])
# raises: AttributeError: fastcnn has no tensor (here: a NumPy array); names: History

# %%
fastcnn.optim.lr_scheduler.StepLR(None, 10)
# raises: AttributeError: fastcnn.optim has no lr_scheduler; Trainer.fit takes schedule=, and optimizer.lr
#   may be set at any time; see fastcnn.train.schedule

# %%
nn.Conv2d(1, 8, 3, device="cuda")
# raises: ValueError: Conv2d: device can only be None or 'cpu' here, got 'cuda'

# %%
nn.Conv2d(1, 8, 3, padding_mode="reflect")
# raises: ValueError: Conv2d: padding_mode can only be 'zeros' here, got 'reflect'

# %%
nn.CrossEntropyLoss(weight=[1.0] * 10)
# raises: ValueError: CrossEntropyLoss: weight can only be None here, got [1.0, 1.0

# %%
nn.CrossEntropyLoss(label_smoothing=0.1)
# raises: ValueError: CrossEntropyLoss: label_smoothing can only be 0.0 or 0 here, got 0.1

# %%
nn.MSELoss()
# raises: AttributeError: fastcnn.nn has no MSELoss (here: model.backward(dy) with the gradient of a loss of your
#   own); layers: AdaptiveAvgPool2d

# %%
F.dropout
# raises: AttributeError: fastcnn.functional has no dropout; functions: adaptive_avg_pool2d

# %%
model.load_state_dict({})
# raises: ValueError: load_state_dict: Sequential does not fit: missing: 0.weight, 0.bias, 3.weight,
#   3.bias, 7.weight, 7.bias and 4 more

# %%
print(list(model.state_dict().keys())[:2])
# prints: ['0.weight', '0.bias']

# %%
print(sum(p.numel() for p in model.parameters() if p.requires_grad) == model.parameter_count())
# prints: True

# %%
print(list(dict(model.named_parameters()))[:2], [type(m).__name__ for m in model.children()][:2])
# prints: ['0.weight', '0.bias'] ['Conv2d', 'Tanh']

# %%
model.register_forward_hook(print)
# raises: AttributeError: Sequential has no attribute 'register_forward_hook' (here: model.features_at(x,
#   names) gives what parts put out)

# %%
print(nn.Sequential(nn.Flatten(1), nn.Linear(784, 10)))
# prints: (0): Flatten() (1): Linear(in_features=784, out_features=10
