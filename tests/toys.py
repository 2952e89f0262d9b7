"""The network of the published vectors of losses, and what is said of options that msdk has no name for."""

import torch
from torch import nn

from msdk.denoiser import Denoiser, StagedNetwork
from msdk.encoders.base import Features
from msdk.partition import Partition


class NotExpressed(Exception):  # noqa: N818  it is no error
    """An option of a case has no name in msdk."""


def named(options, key, names):
    """Ours of an option, by the vectors' names."""
    if options[key] not in names:
        raise NotExpressed(f"{key} = {options[key]}")
    return names[options[key]]


class Passed(nn.Module):
    """An encoder that hands on the image."""

    def forward(self, x, c_noise, label=None, augment=None):
        return Features((), x, c_noise)


class Linear(nn.Module):
    """F(x) = a x + b mean(x), and with k behind it cos(k x), which says a variance."""

    def __init__(self, *weights):
        super().__init__()
        given = [each for each in weights if each is not None]
        self.weights = nn.ParameterList([torch.as_tensor(each, dtype=torch.float64).clone() for each in given])

    def forward(self, features):
        x = features.bottom
        found = self.weights[0] * x + self.weights[1] * x.mean(dim=tuple(range(1, x.ndim)), keepdim=True)
        return found if len(self.weights) == 2 else torch.cat([found, (self.weights[2] * x).cos()], dim=1)


def toy(a, b, schedule, parameterization, shape, k=None):
    """A denoiser around it."""
    network = StagedNetwork([Passed()], [Linear(a, b, k)])
    return Denoiser(network, Partition(), schedule, parameterization, tuple(shape))
