"""What a recipe costs: parameters and multiply-accumulates per stage, before and during training."""

from msdk.budgeting.assembling import budget as budget
from msdk.budgeting.assembling import with_ledger as with_ledger
from msdk.budgeting.costs import Budget as Budget
from msdk.budgeting.costs import StageCosts as StageCosts
