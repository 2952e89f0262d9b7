"""`msdk study`: recipes against each other, priced before they are trained, told with their uncertainty."""

from msdk.studies.fields import Study as Study
from msdk.studies.files import load_study as load_study
from msdk.studies.results import StudyResult as StudyResult
from msdk.studies.studying import study as study
