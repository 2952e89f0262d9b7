"""What does `msdk data prepare` cost beyond decoding, cropping and encoding?

A zip of made-up 218x178 JPEG files is prepared as CelebA 64 by one worker and by two, in turn with a loop of Pillow's
own calls over the same files: open, crop, resize, save as PNG, nothing else. Prints one JSON line: images per second of
each, and their ratio (aim, never asserted: 0.8). `--images 10000` is the size of the table in docs/benchmarks.md.

`python benchmarks/bench_preparing.py --runs 3 --images 10000`
"""

import argparse
import io
import json
import platform
import statistics
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import PIL
from PIL import Image

from msdk.preparing import prepare


def made_up(folder: Path, images: int) -> Path:
    """Smooth pictures, as faces are, of the size of CelebA's."""
    random, path = np.random.default_rng(0), folder / "img_align_celeba.zip"
    few = []
    for _ in range(min(images, 50)):
        coarse = Image.fromarray(random.integers(0, 256, (14, 11, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        coarse.resize((178, 218), Image.Resampling.BICUBIC).save(buffer, "jpeg", quality=95)
        few.append(buffer.getvalue())
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(images):
            archive.writestr(f"img_align_celeba/{number + 1:06d}.jpg", few[number % len(few)])
    return path


def pillow_alone(path: Path) -> float:
    """Images per second of Pillow's calls."""
    begun = time.perf_counter()
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        for name in names:
            image = Image.open(io.BytesIO(archive.read(name))).convert("RGB").crop((25, 57, 153, 185))
            image.resize((64, 64), Image.Resampling.BILINEAR).save(io.BytesIO(), "png")
    return len(names) / (time.perf_counter() - begun)


def ours(path: Path, workers: int) -> float:
    out = path.with_name("celeba64.zip")
    begun = time.perf_counter()
    made = prepare("celeba64", path, out, protocol="celeba:crop128", split="all", workers=workers, force=True)
    return made.images / (time.perf_counter() - begun)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--images", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = made_up(Path(folder), options.images)
        found = [(pillow_alone(path), ours(path, 1), ours(path, 2)) for _ in range(options.runs)]
    pillow, one, two = (statistics.median(each) for each in zip(*found, strict=True))
    results = {
        "images": options.images,
        "pillow, images/s": round(pillow),
        "msdk with 1 worker, images/s": round(one),
        "msdk with 2 workers, images/s": round(two),
        "ratio with 1 worker": round(statistics.median(b / a for a, b, _ in found), 3),
        "ratio with 2 workers": round(statistics.median(c / a for a, _, c in found), 3),
    }
    print(json.dumps({"results": results, "pillow": PIL.__version__, "machine": platform.processor()}))


if __name__ == "__main__":
    main()
