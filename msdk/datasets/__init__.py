"""Named sources of images."""

from msdk.registry import Registry

registry: Registry[object] = Registry(
    "datasets",
    {
        "digits": "msdk.datasets.digits:Digits",
        "folder": "msdk.datasets.folder:Folder",
        "zip": "msdk.datasets.zip:Zip",
    },
    base="msdk.datasets.base:Dataset",
)
add, get, names, origin = registry.add, registry.get, registry.names, registry.origin
