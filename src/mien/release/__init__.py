"""From a finished run to the files that ship.

Tests: `build` in tests/test_release.py.
"""
