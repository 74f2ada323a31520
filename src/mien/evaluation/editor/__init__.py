"""Evaluation of edits.

Tests: `benchmark`, `judges`, `metrics` and `table` in tests/test_evaluate_edits.py; `editors` in
tests/training/editor/test_train.py; `irises` in tests/editing/test_eyes.py.
"""
