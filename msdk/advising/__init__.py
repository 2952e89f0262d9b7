"""`msdk advise`: whether stages would pay for a recipe's data and a budget, from small networks and the data alone."""

from msdk.advising.advice import Advice as Advice
from msdk.advising.asking import advise as advise
