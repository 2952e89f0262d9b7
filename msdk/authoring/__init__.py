"""Help for those who write parts of their own: a package to begin with, and what is wrong with those installed."""
