"""What a process of a run takes, for its metrics. Nothing here waits for a device."""

import sys

import torch

try:
    import resource
except ImportError:  # Windows
    resource = None


def memory(device: torch.device) -> dict[str, int]:
    """Most bytes that the process has held so far, and that its tensors have taken on its GPU."""
    found: dict[str, int] = {}
    if resource is not None:
        unit = 1 if sys.platform == "darwin" else 1024
        found["memory_peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    if device.type == "cuda":
        found["cuda_peak_bytes"] = torch.cuda.max_memory_allocated(device)
    return found
