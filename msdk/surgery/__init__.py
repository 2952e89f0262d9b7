"""`msdk stage`: what is done to the weights of a run after training."""

from msdk.surgery.averaging import average as average
from msdk.surgery.widening import widen as widen
