"""Sampling: from seeds to images, by the loop of `msdk.samplers.base`."""

from msdk.sampling.batches import NoiseSource as NoiseSource
from msdk.sampling.batches import class_labels as class_labels
from msdk.sampling.batches import sample as sample
from msdk.sampling.batches import sample_batches as sample_batches
