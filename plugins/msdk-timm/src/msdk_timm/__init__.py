"""timm's backbones as encoders of msdk: `encoder = { name = "timm", backbone = "resnet18" }`."""
