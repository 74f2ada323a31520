"""Synthetic faces, drawn or rendered.

Tests: `drawings` in tests/data/test_synthetic.py; `head` in tests/data/test_rendered.py.
"""
