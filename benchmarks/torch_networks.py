"""The four networks in eager PyTorch, with dropout at the same sites: the project's training is compared with them.

Shapes, dropout and optimizer are those of `benchmarks.price`; layers are PyTorch's own in
their fastest form (convolutions in `channels_last` where that is faster).
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - PyTorch's own name for it


def mlp(rate: float = 0.5) -> nn.Module:
    """Returns the MLP 512-512."""
    hidden = [nn.Linear(784, 512), nn.ReLU(), nn.Dropout(rate), nn.Linear(512, 512), nn.ReLU(), nn.Dropout(rate)]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(512, 10))


def cnn(rate: float = 0.5, spatial: float = 0.1) -> nn.Module:
    """Returns the CNN; `rate` is at `hidden`, `spatial` at `conv`."""

    def convolution(before, after):
        return [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.Dropout2d(spatial)]

    first = [*convolution(1, 32), *convolution(32, 32), nn.MaxPool2d(2)]
    second = [*convolution(32, 64), *convolution(64, 64), nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*first, *second, nn.Linear(64 * 49, 256), nn.ReLU(), nn.Dropout(rate), nn.Linear(256, 10))


def resnet(rate: float = 0.2) -> nn.Module:
    """Returns the ResNet."""
    return nn.Sequential(
        *_normalised(1, 16),
        nn.ReLU(),
        _Residual(16, 16, 1, rate),
        _Residual(16, 32, 2, rate),
        _Residual(32, 64, 2, rate),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def transformer(rate: float = 0.1) -> nn.Module:
    """Returns the transformer."""
    return _Transformer(rate)


def _normalised(before, after, stride=1, size=3):
    return nn.Conv2d(before, after, size, stride, padding=size // 2, bias=False), nn.BatchNorm2d(after)


class _Residual(nn.Module):
    def __init__(self, before, after, stride, rate):
        super().__init__()
        inner = (*_normalised(before, after, stride), nn.ReLU(), nn.Dropout(rate), *_normalised(after, after))
        self.branch = nn.Sequential(*inner)
        same = stride == 1 and before == after
        self.shortcut = nn.Identity() if same else nn.Sequential(*_normalised(before, after, stride, 1))

    def forward(self, x):
        return F.relu(self.shortcut(x) + self.branch(x))


class _Transformer(nn.Module):
    def __init__(self, rate, width=64, depth=4):
        super().__init__()
        self.embed, self.position = nn.Linear(16, width), nn.Parameter(0.02 * torch.randn(49, width))
        self.blocks = nn.Sequential(*(_Encoder(width, rate) for _ in range(depth)))
        self.drop, self.norm, self.head = nn.Dropout(rate), nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x):
        patches = F.unfold(x, 4, stride=4).transpose(1, 2)
        x = self.drop(self.embed(patches) + self.position)
        return self.head(self.norm(self.blocks(x)).mean(1))


class _Encoder(nn.Module):
    def __init__(self, width, rate, heads=4, ffn=256):
        super().__init__()
        self.heads, self.rate = heads, rate
        self.before, self.middle = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Sequential(nn.Linear(width, width), nn.Dropout(rate))
        inner = (nn.Linear(width, ffn), nn.GELU(approximate="tanh"), nn.Dropout(rate), nn.Linear(ffn, width))
        self.ffn = nn.Sequential(*inner, nn.Dropout(rate))

    def forward(self, x):
        batch, length, width = x.shape
        qkv = self.qkv(self.before(x)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(query, key, value, dropout_p=self.rate if self.training else 0.0)
        x = x + self.out(y.transpose(1, 2).reshape(batch, length, width))
        return x + self.ffn(self.middle(x))


class Trainer:
    """Trains `network` with Adam on images `(n, height, width, channels)` and labels in memory."""

    def __init__(self, network: nn.Module, x: np.ndarray, y: np.ndarray, batch: int, channels_last: bool):
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        self._network = network.to(memory_format=self._layout).train()
        self._x, self._y, self._batch = torch.from_numpy(x).permute(0, 3, 1, 2), torch.from_numpy(y).long(), batch
        self._optimizer = torch.optim.Adam(network.parameters(), 1e-3)

    def epoch(self) -> None:
        """Trains one pass over the shuffled data."""
        for index in torch.randperm(len(self._x)).split(self._batch):
            x = (self._x[index].float() / 255).contiguous(memory_format=self._layout)
            self._optimizer.zero_grad()
            F.cross_entropy(self._network(x), self._y[index]).backward()
            self._optimizer.step()
