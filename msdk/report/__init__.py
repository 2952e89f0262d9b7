"""Results -> what a person reads: tables, pages, plots.

Everything here reads the classes of results, which JSON keeps (`msdk.recipe.results`), so a saved budget or clustering
can be shown again. These are the names that the rest of msdk uses; jinja2 and matplotlib are imported when a page or a
plot is asked for.
"""

from msdk.report.budgets import budget_grids as budget_grids
from msdk.report.budgets import comparison_grid as comparison_grid
from msdk.report.budgets import stages_grid as stages_grid
from msdk.report.clusters import clusters_grid as clusters_grid
from msdk.report.clusters import clusters_lines as clusters_lines
from msdk.report.clusters import clusters_plot as clusters_plot
from msdk.report.data import survey_grids as survey_grids
from msdk.report.formats import check_suffix as check_suffix
from msdk.report.formats import rendered as rendered
from msdk.report.grid import Grid as Grid
from msdk.report.h_space import h_space_grids as h_space_grids
from msdk.report.h_space import h_space_plot as h_space_plot
from msdk.report.layout import paragraphs as paragraphs
from msdk.report.plugins import parts_grids as parts_grids
from msdk.report.plugins import plugins_grid as plugins_grid
from msdk.report.resources import cards_grid as cards_grid
from msdk.report.resources import spent_grid as spent_grid
from msdk.report.runs import RunReport as RunReport
from msdk.report.runs import calls_grid as calls_grid
from msdk.report.runs import diff_grid as diff_grid
from msdk.report.runs import losses_plot as losses_plot
from msdk.report.runs import run_markdown as run_markdown
from msdk.report.solutions import solutions_grid as solutions_grid
