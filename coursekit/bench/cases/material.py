"""The networks and data that the rows share: small, trained for a moment, the same on every machine."""

import torch
from torch import Tensor, nn

from coursekit.data.images import mnist
from coursekit.nets import LeNet
from coursekit.train import supervised, train

_cross_entropy = nn.functional.cross_entropy


def images(split: str, count: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The first ``count`` bundled MNIST images (N, 1, 28, 28) and their labels."""
    x, y = mnist(split)
    return x[:count].to(device, dtype), y[:count].to(device)


def mlp(device: torch.device, dtype: torch.dtype, *, bias: bool = True, dropout: float = 0.0) -> nn.Sequential:
    """MLP 784-128-64-10 with ReLU, two epochs on 4,000 images."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in ((784, 128), (128, 64)):
        layers += [nn.Linear(inputs, outputs, bias=bias), nn.ReLU()]
        layers += [nn.Dropout(dropout)] if dropout else []
    model = nn.Sequential(*layers, nn.Linear(64, 10, bias=bias))
    return _trained(model, 4000, device, dtype)


def lenet(device: torch.device, dtype: torch.dtype) -> LeNet:
    """The LeNet of the third lab, two epochs on 2,000 images."""
    torch.manual_seed(0)
    return _trained(LeNet(), 2000, device, dtype)


def _trained(model: nn.Module, count: int, device: torch.device, dtype: torch.dtype) -> nn.Module:
    x, y = images("train", count, torch.device("cpu"), torch.float32)
    generator = torch.Generator().manual_seed(0)
    train(model, supervised(_cross_entropy), x, y, epochs=2, batch_size=100, generator=generator, progress=False)
    return model.to(device, dtype).eval()
