import os

import fastcnn
from fastcnn import functional as F
from fastcnn import nn

# %%
fastcnn.models.create("lenet")
# raises: ValueError: no network named 'lenet' (did you mean 'lenet5'?); available: lenet5, resnet20_cifar

# %%
fastcnn.models.create("resnet18")
# raises: ValueError: no network named 'resnet18'; available: lenet5, resnet20_cifar

# %%
nn.conv2d(1, 8, 3)
# raises: AttributeError: fastcnn.nn has no conv2d (it is fastcnn.functional.conv2d); layers:
#   AdaptiveAvgPool2d

# %%
nn.Conv2D(8, 3)
# raises: AttributeError: fastcnn.nn has no Conv2D (here: nn.Conv2d); layers: AdaptiveAvgPool2d

# %%
nn.MaxPool2D(2)
# raises: AttributeError: fastcnn.nn has no MaxPool2D (did you mean MaxPool2d?); layers: AdaptiveAvgPool2d

# %%
nn.Dropout(0.5)
# raises: AttributeError: fastcnn.nn has no Dropout (here: against overfitting weight_decay of optim.SGD
#   and shift of the data); layers: AdaptiveAvgPool2d

# %%
nn.ReLu()
# raises: AttributeError: fastcnn.nn has no ReLu (did you mean ReLU?); layers: AdaptiveAvgPool2d

# %%
F.relo
# raises: AttributeError: fastcnn.functional has no relo; functions: adaptive_avg_pool2d

# %%
fastcnn.optim.Adam
# raises: AttributeError: fastcnn.optim has no Adam; optimizers: SGD

# %%
fastcnn.data.cifar10()
# raises: AttributeError: fastcnn.data has no cifar10; names: ArrayDataset

# %%
fastcnn.train.cosin
# raises: AttributeError: fastcnn.train has no cosin (did you mean cosine?); names: SCHEDULES

# %%
nn.Conv2d(1, 8)
# raises: TypeError: Conv2d.__init__() missing 1 required positional argument: 'kernel_size'

# %%
nn.Conv2d(1, 8, kernel=3)
# raises: TypeError: Conv2d.__init__() got an unexpected keyword argument 'kernel'

# %%
nn.Conv2d(1, 8, 3, padding="SAME")
# raises: ValueError: Conv2d: expected padding 'same' or 'valid' or integers, got 'SAME' (did you mean
#   'same'?)

# %%
nn.Linear("784", 10)
# raises: TypeError: Linear: expected integers for in_features, got '784'

# %%
nn.Sequential([nn.Flatten(), nn.Linear(784, 10)])
# raises: TypeError: Sequential: expected modules, got a list; unpack it: Sequential(*layers)

# %%
nn.Sequential(nn.Flatten, nn.Linear(784, 10))
# raises: TypeError: Sequential: expected modules, got type at position 0; did you mean Flatten()?

# %%
fastcnn.data.digits(split="test")
# raises: TypeError: digits() got an unexpected keyword argument 'split'

# %%
os.system("fastcnn train lenet digits")
# prints: fastcnn: no network named 'lenet' (did you mean 'lenet5'?); available: lenet5, resnet20_cifar

# %%
os.system("fastcnn train lenet5 digit")
# prints: fastcnn: no data set named 'digit': give digits, mnist, fashion_mnist, or a folder

# %%
os.system("fastcnn train lenet5 digits --epoch 3")
# prints: fastcnn: No such option: --epoch (Possible options: --epochs) (see fastcnn train --help)

# %%
os.system("fastcnn trian lenet5 digits")
# prints: fastcnn: No such command 'trian'. Did you mean 'train'? (see fastcnn --help)

# %%
os.system("fastcnn predict lenet5-digit.safetensors scan.png")
# prints: fastcnn: lenet5-digit.safetensors: No such file or directory
