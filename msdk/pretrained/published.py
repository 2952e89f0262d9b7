"""The configurations of the published full-size checkpoints, by name: what their authors' constructors were given."""

from collections.abc import Mapping
from typing import Any

_SONG = {
    "model_type": "SongUNet",
    "img_channels": 3,
    "img_resolution": 32,
    "augment_dim": 9,
    "dropout": 0.13,
    "model_channels": 128,
    "channel_mult": [2, 2, 2],
}
_NCSNPP = {
    "embedding_type": "fourier",
    "encoder_type": "residual",
    "channel_mult_noise": 2,
    "resample_filter": [1, 3, 3, 1],
}
_FFHQ = {**_SONG, "img_resolution": 64, "channel_mult": [1, 2, 2, 2], "dropout": 0.05}


def _sde(
    model: Mapping[str, Any], sde: str = "vpsde", *, centered: bool = True, continuous: bool = True
) -> dict[str, Any]:
    shared = {"ch_mult": [1, 2, 2, 2], "attn_resolutions": [16], "dropout": 0.1, "resamp_with_conv": True}
    return {
        "model": {**shared, **model},
        "data": {"image_size": 32, "num_channels": 3, "centered": centered},
        "training": {"sde": sde, "continuous": continuous},
    }


_DDPMPP = {"name": "ncsnpp", "nf": 128, "embedding_type": "positional", "resblock_type": "biggan", "fir": False}
_VE = {
    **_DDPMPP,
    "embedding_type": "fourier",
    "fir": True,
    "progressive_input": "residual",
    "scale_by_sigma": True,
    "sigma_min": 0.01,
    "sigma_max": 50,
}
_LDM = {
    "image_size": 64,
    "in_channels": 3,
    "out_channels": 3,
    "model_channels": 224,
    "attention_resolutions": [8, 4, 2],
    "num_res_blocks": 2,
    "channel_mult": [1, 2, 3, 4],
    "num_head_channels": 32,
}

PUBLISHED: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "edm": {
        "edm-cifar10-uncond-vp": _SONG,
        "edm-cifar10-cond-vp": {**_SONG, "label_dim": 10},
        "edm-cifar10-uncond-ve": {**_SONG, **_NCSNPP},
        "edm-cifar10-cond-ve": {**_SONG, **_NCSNPP, "label_dim": 10},
        "edm-ffhq64-uncond-vp": _FFHQ,
        "edm-ffhq64-uncond-ve": {**_FFHQ, **_NCSNPP},
        "edm-imagenet64-cond-adm": {
            "model_type": "DhariwalUNet",
            "img_channels": 3,
            "img_resolution": 64,
            "label_dim": 1000,
        },
    },
    "score_sde": {
        "sde-cifar10-ddpm-continuous-vp": _sde({"name": "ddpm", "nf": 128, "num_res_blocks": 2}),
        "sde-cifar10-ddpm-discrete-vp": _sde({"name": "ddpm", "nf": 128, "num_res_blocks": 2}, continuous=False),
        "sde-cifar10-ddpmpp-continuous-vp": _sde({**_DDPMPP, "num_res_blocks": 4}),
        "sde-cifar10-ddpmpp-deep-continuous-vp": _sde({**_DDPMPP, "num_res_blocks": 8}),
        "sde-cifar10-ncsnpp-continuous-ve": _sde({**_VE, "num_res_blocks": 4}, "vesde", centered=False),
        "sde-cifar10-ncsnpp-deep-continuous-ve": _sde({**_VE, "num_res_blocks": 8}, "vesde", centered=False),
    },
    "ldm": {"ldm-celebahq256": _LDM},
    "vq": {
        "ldm-vq-f4": {
            "embed_dim": 3,
            "n_embed": 8192,
            "ddconfig": {
                "double_z": False,
                "z_channels": 3,
                "resolution": 256,
                "in_channels": 3,
                "out_ch": 3,
                "ch": 128,
                "ch_mult": [1, 2, 4],
                "num_res_blocks": 2,
                "attn_resolutions": [],
                "dropout": 0.0,
            },
        }
    },
    "multistage-edm": {
        "multistage-edm": {
            **{key: value for key, value in _SONG.items() if key != "model_channels"},
            "model_type": "MultistageUNet",
            "en_model_channels": 128,
            "de_model_channels": [192, 128, 16],
        }
    },
    "multistage-score-sde": {
        "multistage-dpm-cifar10": _sde(
            {
                **{key: value for key, value in _DDPMPP.items() if key not in ("name", "nf", "fir")},
                "name": "ncsnpp_multistage",
                "en_nf": 128,
                "de_nfs": [192, 128, 16],
                "num_res_blocks": 8,
                "fir": True,
                "progressive_input": "residual",
                "group": 16,
            }
        )
    },
    "multistage-ldm": {
        "multistage-ldm-celebahq256": {**_LDM, "de_nfs": [256, 192, 128], "stage_interval": [442, 631, 1000]}
    },
}
"""Family -> name -> constructor settings, as `msdk.load_pretrained` takes them."""
