"""`msdk runs` and `msdk compare`: what run folders hold, one below the other and side by side. Imports no torch."""

from msdk.browsing.beside import Comparison as Comparison
from msdk.browsing.beside import compare as compare
from msdk.browsing.summaries import Line as Line
from msdk.browsing.summaries import RunSummary as RunSummary
from msdk.browsing.summaries import lines_of as lines_of
from msdk.browsing.summaries import runs_below as runs_below
from msdk.browsing.summaries import summary as summary
