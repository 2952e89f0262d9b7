"""timm's network with DINOv2's weights of a local file."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from msdk.errors import PartError
from msdk.extractors.base import Extracted, Opened
from msdk.extractors.files import found, read

if TYPE_CHECKING:
    from msdk.extractors.dinov2 import DINOv2

NAMES = {"s": "small", "b": "base", "l": "large", "g": "giant"}
SIDE = 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class _Opened(Opened):
    def __init__(self, spec: "DINOv2", net: Any, digest: str, device: str, width: int) -> None:
        self.net, self.digest, self.device, self.width = net.eval().to(device), digest, device, width
        self.sized = _by_pillow if spec.resize == "pillow" else _by_torch
        self.mean, self.std = (torch.tensor(each, device=device).view(1, 3, 1, 1) for each in (MEAN, STD))

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Extracted:
        sized = self.sized(images.expand(-1, 3, -1, -1), self.device) / 255
        return Extracted(self.net((sized - self.mean) / self.std).float().cpu())


def _by_pillow(images: Tensor, device: str) -> Tensor:
    """In 8 bits, between its two passes too."""
    from PIL import Image

    sized = [
        np.asarray(Image.fromarray(each.permute(1, 2, 0).numpy()).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        for each in images.contiguous()
    ]
    return torch.from_numpy(np.stack(sized)).permute(0, 3, 1, 2).to(device).float()


def _by_torch(images: Tensor, device: str) -> Tensor:
    pixels = images.to(device).float()
    return functional.interpolate(pixels, size=(SIDE, SIDE), mode="bicubic", antialias=True, align_corners=False)


def opened(spec: "DINOv2", device: str) -> Opened:
    """Reads the file, in DINOv2's own names or timm's."""
    import timm
    from timm.models.vision_transformer import checkpoint_filter_fn

    from msdk.extractors.dinov2 import PUBLISHED, WIDTHS

    path = found(PUBLISHED[spec.size], spec.weights)
    state, digest = read(path)
    name = f"vit_{NAMES[spec.size]}_patch14_dinov2"
    net: Any = timm.create_model(name, pretrained=False, num_classes=0, img_size=SIDE)
    try:
        net.load_state_dict(checkpoint_filter_fn(state, net))
    except (RuntimeError, KeyError, AttributeError) as error:
        first = " ".join(str(error).split())[:200]
        raise PartError(f"{path} has no weights of {PUBLISHED[spec.size].what}: {first}") from error
    return _Opened(spec, net, digest, device, WIDTHS[spec.size])
