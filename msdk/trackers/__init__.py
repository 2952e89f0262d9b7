"""Where a run tells how it goes."""

from typing import TYPE_CHECKING

from msdk.registry import Kind, Registry

if TYPE_CHECKING:
    from msdk.trackers.base import Tracker

# Two live where what they write does: the metrics of a run among its files, its ledger beside the prices it adds up.
registry: "Registry[Tracker]" = Registry(
    Kind(
        name="trackers",
        base="msdk.trackers.base:Tracker",
        laws="msdk.testing.trackers:LAWS",
        template="msdk.authoring.templates.tracker:MyTracker",
        always=("jsonl", "ledger"),
    ),
    {
        "jsonl": "msdk.runs.metrics:JSONL",
        "ledger": "msdk.budgeting.ledger:LedgerTracker",
        "tensorboard": "msdk.trackers.tensorboard:TensorBoard",
    },
)
add, get, names, origin = registry.add, registry.get, registry.names, registry.origin
