"""jaxtyping's shape checks on the plugin's network."""

from jaxtyping import install_import_hook

install_import_hook(("msdk_timm.network",), "beartype.beartype")
