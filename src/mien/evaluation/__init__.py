"""Numbers that judge: metrics, intervals, comparisons."""
