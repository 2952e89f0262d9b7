"""The network of the digits' extractor."""

import hashlib
from importlib import resources

import torch
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn import functional

from msdk.extractors.base import Extracted, Opened

FILE = "digits.safetensors"
"""Beside this module; `benchmarks/train_digits_extractor.py` writes it."""


class DigitsNet(nn.Module):
    """Three convolutions, 64 features, ten classes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 32, 3, padding=1, stride=2)
        self.third = nn.Conv2d(32, 48, 3, padding=1, stride=2)
        self.features = nn.Linear(48 * 4, 64)
        self.classes = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits of images in [-1, 1]."""
        h = images
        for layer in (self.first, self.second, self.third):
            h = functional.silu(layer(h))
        features = self.features(h.flatten(1))
        return features, self.classes(functional.silu(features))


class _Opened(Opened):
    width, classes = 64, 10

    def __init__(self, net: DigitsNet, digest: str, device: str) -> None:
        self.device = "cpu" if device.startswith("mps") else device  # Apple's have no float64
        self.net, self.digest = net.double().eval().to(self.device), digest

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Extracted:
        features, logits = self.net(images.to(self.device).double() / 127.5 - 1)
        return Extracted(features.cpu(), logits.cpu())


def opened(device: str) -> Opened:
    """With the shipped weights."""
    content = resources.files("msdk.extractors").joinpath(FILE).read_bytes()
    net = DigitsNet()
    net.load_state_dict(load(content))
    return _Opened(net, hashlib.sha256(content).hexdigest(), device)
