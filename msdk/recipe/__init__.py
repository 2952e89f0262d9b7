"""Recipes: strict, frozen data that names the parts of a model, its training and its sampling.

A recipe file is TOML. It may extend others, a command line may override single keys, and every mistake in the result
is reported at once with the file and the path it stands at. Nothing here imports torch: a recipe is checked, down to
whether features fit decoders, in a fraction of a second.
"""

from msdk.recipe.cautions import cautions as cautions
from msdk.recipe.cautions import uncalled as uncalled
from msdk.recipe.cautions import undertrained as undertrained
from msdk.recipe.cautions import unseen as unseen
from msdk.recipe.checks import check_axes as check_axes
from msdk.recipe.checks import check_trainable as check_trainable
from msdk.recipe.checks import noise_range as noise_range
from msdk.recipe.evaluations import Evaluation as Evaluation
from msdk.recipe.fields import AUGMENT_LABELS as AUGMENT_LABELS
from msdk.recipe.fields import DEFAULT_STEPS as DEFAULT_STEPS
from msdk.recipe.fields import LIMITS as LIMITS
from msdk.recipe.fields import BudgetOptions as BudgetOptions
from msdk.recipe.fields import Convention as Convention
from msdk.recipe.fields import Recipe as Recipe
from msdk.recipe.fields import Sampling as Sampling
from msdk.recipe.fields import Stages as Stages
from msdk.recipe.fields import Training as Training
from msdk.recipe.guides import Guide as Guide
from msdk.recipe.loading import checked as checked
from msdk.recipe.loading import lacking as lacking
from msdk.recipe.loading import load_recipe as load_recipe
from msdk.recipe.loading import recipe_file as recipe_file
from msdk.recipe.loading import recipe_of as recipe_of
from msdk.recipe.loading import structure as structure
from msdk.recipe.loading import to_toml as to_toml
from msdk.recipe.stage_draws import StageDraw as StageDraw
from msdk.recipe.starts import Init as Init
from msdk.recipe.structuring import to_data as to_data
