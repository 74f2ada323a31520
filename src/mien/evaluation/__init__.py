"""Evaluation of recognisers and editors: metrics, intervals, comparisons.

Tests: `inference` and `subgroups` in tests/test_evaluate.py; `intervals` in tests/test_metrics.py and
tests/test_coverage.py; `metrics` in tests/test_metrics.py; `published_results` in tests/test_compare.py.
"""
