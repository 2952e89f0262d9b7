"""Named sources of images."""

from typing import TYPE_CHECKING

from msdk.registry import Kind, Registry

if TYPE_CHECKING:
    from msdk.datasets.base import Dataset

registry: "Registry[Dataset]" = Registry(
    Kind(
        name="datasets",
        base="msdk.datasets.base:Dataset",
        laws="msdk.testing.datasets:LAWS",
        template="msdk.authoring.templates.dataset:MyDataset",
        imports=(
            "batch",
            "encoders.base",
        ),  # for `Shape`
    ),
    {
        "digits": "msdk.datasets.digits:Digits",
        "folder": "msdk.datasets.folder:Folder",
        "shards": "msdk.datasets.shards:Shards",
        "tar": "msdk.datasets.tar:Tar",
        "zip": "msdk.datasets.zip:Zip",
    },
)
add, get, names, origin = registry.add, registry.get, registry.names, registry.origin
