"""Hugging Face's formats for msdk: data sets, diffusers pipelines, model cards."""
