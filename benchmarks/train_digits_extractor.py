"""How well does the digits' extractor tell held-out digits apart? Trains it anew, and writes the file that is shipped

    python benchmarks/train_digits_extractor.py [--out FILE]

Four fifths of the digits are learned, shifted by up to a pixel; every fifth, which training never sees, is held out.
The file is msdk/extractors/digits.safetensors. Weights depend on the version of torch in their last bits, so numbers of
`FD-digits` are of the file with this digest, which every score carries.
"""

import argparse
import hashlib
import json
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn import functional

from msdk.datasets.digits import Digits
from msdk.extractors.digits_net import FILE, DigitsNet

SHIPPED = Path(__file__).parent.parent / "msdk" / "extractors" / FILE
HELD_OUT = 5
"""Every so many-th digit is held out."""

STEPS, BATCH, RATE = 4000, 128, 2e-3


def digits() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pixels in [-1, 1], classes, and which of them are held out."""
    source = Digits().open()
    images, condition = source.batch(range(len(source)))
    assert condition.label is not None
    return images.float() / 127.5 - 1, condition.label, torch.arange(len(images)) % HELD_OUT == 0


def accuracy(net: DigitsNet, images: torch.Tensor, labels: torch.Tensor) -> float:
    """The share of images whose class is told."""
    with torch.no_grad():
        return float((net(images)[1].argmax(1) == labels).double().mean())


def shifted(images: torch.Tensor) -> torch.Tensor:
    """Each by a pixel at most, with paper where it left."""
    padded = functional.pad(images, (1, 1, 1, 1), value=-1.0)
    x, y = torch.randint(0, 3, (2, len(images), 1))
    rows, columns = x + torch.arange(8), y + torch.arange(8)
    return padded[torch.arange(len(images))[:, None, None], 0, rows[:, :, None], columns[:, None, :]][:, None]


def trained(steps: int = STEPS) -> DigitsNet:
    """The network, by AdamW with a cosine, from seed 0."""
    torch.manual_seed(0)
    images, labels, held_out = digits()
    images, labels = images[~held_out], labels[~held_out]
    net = DigitsNet()
    optimizer = torch.optim.AdamW(net.parameters(), RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        chosen = torch.randint(0, len(images), (BATCH,))
        optimizer.zero_grad()
        functional.cross_entropy(net(shifted(images[chosen]))[1], labels[chosen], label_smoothing=0.05).backward()
        optimizer.step()
        schedule.step()
    return net.eval()


def main() -> None:
    """Trains, writes, and prints one line of JSON."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", type=Path, default=SHIPPED)
    options.add_argument("--steps", type=int, default=STEPS)
    asked = options.parse_args()
    begun = time.perf_counter()
    net = trained(asked.steps)
    save_file(net.state_dict(), asked.out)
    images, labels, held_out = digits()
    print(
        json.dumps(
            {
                "held_out": int(held_out.sum()),
                "accuracy_held_out": accuracy(net, images[held_out], labels[held_out]),
                "accuracy_learned": accuracy(net, images[~held_out], labels[~held_out]),
                "bytes": asked.out.stat().st_size,
                "sha256": hashlib.sha256(asked.out.read_bytes()).hexdigest(),
                "seconds": round(time.perf_counter() - begun, 1),
                "torch": torch.__version__,
            }
        )
    )


if __name__ == "__main__":
    main()
