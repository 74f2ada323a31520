"""Datasets: records, protocols, crops and predictions.

Tests: `checking`, `contact_sheet` and `duplicates` in tests/data/test_doctor.py; `config`, `cropping` and `records` in
tests/data/test_loaders.py; `predictions` in tests/test_evaluate.py; `vote_rules` in tests/data/test_protocols.py.
"""
