"""Make releasable weights from a finished run.

Tests: `build` in tests/test_release.py.
"""
