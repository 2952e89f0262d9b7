"""Sampling: from seeds to images, by the loop of `msdk.samplers.base`."""

from msdk.sampling.batches import class_labels as class_labels
from msdk.sampling.batches import draw as draw
from msdk.sampling.batches import sample as sample
from msdk.sampling.settings import NoiseSource as NoiseSource
from msdk.sampling.settings import Settings as Settings
from msdk.sampling.settings import class_number as class_number
from msdk.sampling.settings import overridden as overridden
from msdk.sampling.settings import settings_of as settings_of
