"""Named sources of images."""

from typing import TYPE_CHECKING

from msdk.registry import Registry

if TYPE_CHECKING:
    from msdk.datasets.base import Dataset

registry: "Registry[Dataset]" = Registry(
    "datasets",
    {
        "digits": "msdk.datasets.digits:Digits",
        "folder": "msdk.datasets.folder:Folder",
        "shards": "msdk.datasets.shards:Shards",
        "zip": "msdk.datasets.zip:Zip",
    },
    base="msdk.datasets.base:Dataset",
)
add, get, names, origin = registry.add, registry.get, registry.names, registry.origin
