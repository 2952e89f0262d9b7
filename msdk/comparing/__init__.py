"""`msdk runs` and `msdk compare`: what run folders hold, one below the other and side by side. Imports no torch."""

from msdk.comparing.beside import Comparison as Comparison
from msdk.comparing.beside import compare as compare
from msdk.comparing.summaries import Line as Line
from msdk.comparing.summaries import RunSummary as RunSummary
from msdk.comparing.summaries import lines_of as lines_of
from msdk.comparing.summaries import runs_below as runs_below
from msdk.comparing.summaries import summary as summary
