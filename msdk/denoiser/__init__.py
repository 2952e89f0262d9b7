"""The denoiser: a parameterisation around a staged network, routed by a partition of the noise ratio."""

from msdk.batch import per_image as per_image
from msdk.denoiser.denoising import Denoiser as Denoiser
from msdk.denoiser.network import StagedNetwork as StagedNetwork
from msdk.denoiser.network import StageNetwork as StageNetwork
from msdk.denoiser.network import scaled as scaled
