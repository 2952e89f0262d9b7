"""Neighbours of multi-stage diffusion models as parts of msdk."""
