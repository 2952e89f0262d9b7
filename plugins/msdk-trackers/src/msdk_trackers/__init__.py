"""Trackers of others for msdk: Weights & Biases, MLflow, Trackio."""
