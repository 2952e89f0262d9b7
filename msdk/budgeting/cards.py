"""Cards that training can be planned for where they are not at hand: peak rates and memory, as their makers state them.

Rates are dense ones: data sheets that state them with structured sparsity are halved, which no training has. Those of
16 bits accumulate in 32.
"""

import re
from collections.abc import Mapping
from typing import Literal

import attrs

from msdk.errors import MsdkError, UnknownNameError, unknown

Rate = Literal["fp32", "tf32", "fp16", "bf16"]
"""How products are computed; "tf32" keeps float32 but rounds what is multiplied to 10 bits."""

Wire = Literal["NVLink", "Infinity Fabric", "PCIe"]
"""What cards of a machine reach each other by. NVLink and Infinity Fabric join all of the usual eight."""


@attrs.frozen
class Card:
    """One card.

    Attributes:
        name: As `--gpu` spells it.
        title: As its maker spells it.
        memory: Bytes.
        peak: FLOP/s by rate; what is missing the card's matrix units do not compute.
        link: Bytes/s that it sends to other cards of its machine, in one direction: half of what is stated for both.
        wire: By which.
        source: The document of the maker that states them.
    """

    name: str
    title: str
    memory: int
    peak: Mapping[Rate, float] = attrs.field(hash=False)
    link: float
    wire: Wire
    source: str

    def rate(self, dtype: Literal["fp32", "bf16", "fp16"]) -> Rate:
        """How training in a precision multiplies here: float32 as TF32 where there is that, as torch's convolutions do.

        Raises:
            MsdkError: The card does not compute in that precision.
        """
        if dtype == "fp32":
            return "tf32" if "tf32" in self.peak else "fp32"
        if dtype not in self.peak:
            raise MsdkError(f"{self.title} does not compute in {dtype}: it has {', '.join(self.peak)}")
        return dtype


def _card(
    name: str,
    title: str,
    gib: int,
    source: str,
    *,
    link: float,
    wire: Wire = "PCIe",
    fp32: float,
    tf32: float | None = None,
    fp16: float | None = None,
    bf16: float | None = None,
) -> Card:
    """Memory in GiB, rates in TFLOP/s, the link in GB/s."""
    rates: dict[Rate, float | None] = {"fp32": fp32, "tf32": tf32, "fp16": fp16, "bf16": bf16}
    peaks: dict[Rate, float] = {rate: 1e12 * peak for rate, peak in rates.items() if peak}
    return Card(name, title, gib * 2**30, peaks, 1e9 * link, wire, source)


_HOPPER = "NVIDIA H100 Tensor Core GPU Architecture, white paper, 2022, table 2"
_AMPERE = "NVIDIA A100 Tensor Core GPU, data sheet, 2021"

# Checked in November 2026 against copies of the makers' documents, and against the tables of PyTorch Lightning
# (throughput.py) and torchtitan (get_peak_flops), which cite them: volta-v100-datasheet-update-us-1165301-r5,
# t4-tensor-core-datasheet-951643, nvidia-a100-datasheet-us-nvidia-1758950-r4 (312 dense, NVLink 600 GB/s both ways),
# l40s-datasheet-28413 (TF32 183 | 366, PCIe 4.0 64 GB/s both ways), the H100 white paper (494.7 and 989.4 dense, NVLink
# 900 GB/s), blackwell-datasheet-3384703 (of one card TF32 2.2 sparse: 18 of a board's eight, rounded; NVLink 1.8 TB/s),
# the pages of H200 and MI300X (seven links of 128 GB/s), the Ada white paper 2.01. The A10G's 70 are its own: the A10
# has 125.
CARDS: Mapping[str, Card] = {
    card.name: card
    for card in (
        _card("v100", "NVIDIA V100 SXM2", 32, "NVIDIA V100, data sheet, 2020",
              link=150, wire="NVLink", fp32=15.7, fp16=125),
        _card("t4", "NVIDIA T4", 16, "NVIDIA T4, data sheet, 2019", link=16, fp32=8.1, fp16=65),
        _card("a10g", "NVIDIA A10G", 24, "NVIDIA A10G, data sheet for AWS, 2022",
              link=32, fp32=35, tf32=35, fp16=70, bf16=70),
        _card("a100-40", "NVIDIA A100 40GB", 40, _AMPERE,
              link=300, wire="NVLink", fp32=19.5, tf32=156, fp16=312, bf16=312),
        _card("a100-80", "NVIDIA A100 80GB", 80, _AMPERE,
              link=300, wire="NVLink", fp32=19.5, tf32=156, fp16=312, bf16=312),
        _card("rtx-4090", "NVIDIA GeForce RTX 4090", 24, "NVIDIA Ada GPU Architecture, white paper, 2022, appendix A",
              link=32, fp32=82.6, tf32=82.6, fp16=165.2, bf16=165.2),
        _card("l4", "NVIDIA L4", 24, "NVIDIA L4, data sheet, 2023",
              link=32, fp32=30.3, tf32=60, fp16=121, bf16=121),
        _card("l40s", "NVIDIA L40S", 48, "NVIDIA L40S, data sheet, 2023",
              link=32, fp32=91.6, tf32=183, fp16=362.05, bf16=362.05),
        _card("h100-pcie", "NVIDIA H100 PCIe", 80, _HOPPER, link=64, fp32=51.2, tf32=378, fp16=756, bf16=756),
        _card("h100-sxm", "NVIDIA H100 SXM", 80, _HOPPER,
              link=450, wire="NVLink", fp32=66.9, tf32=494.7, fp16=989.4, bf16=989.4),
        _card("h200", "NVIDIA H200 SXM", 141, "NVIDIA H200, data sheet, 2024",
              link=450, wire="NVLink", fp32=67, tf32=494.5, fp16=989.5, bf16=989.5),
        _card("b200", "NVIDIA B200 (HGX)", 180, "NVIDIA HGX B200, data sheet, 2025, an eighth of the board's",
              link=900, wire="NVLink", fp32=75, tf32=1125, fp16=2250, bf16=2250),
        _card("mi300x", "AMD Instinct MI300X", 192, "AMD Instinct MI300X, data sheet, 2023",
              link=448, wire="Infinity Fabric", fp32=163.4, tf32=653.7, fp16=1307.4, bf16=1307.4),
    )
}  # fmt: skip
"""By name, slower ones first."""

SHORT = {"a100": "a100-80", "h100": "h100-sxm", "4090": "rtx-4090"}
"""Names that several cards share, or that leave a part out -> which is meant."""


def card_named(name: str) -> Card:
    """The card of a name in any spelling: "H100 SXM", "h100-sxm", "a100", "NVIDIA L4".

    Raises:
        UnknownNameError: There is none in the table; the message has those that there are.
    """
    wanted = _plain(name)
    for card in CARDS.values():
        if wanted in (_plain(card.name), _plain(card.title)):
            return card
    if wanted in SHORT:
        return CARDS[SHORT[wanted]]
    raise UnknownNameError(f"{unknown('card', name, (*CARDS, *SHORT))} `msdk budget cards` has their rates.")


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower()).removeprefix("nvidia").removeprefix("amd")
