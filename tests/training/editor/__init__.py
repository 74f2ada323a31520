"""Tests of `mien.training.editor`; `test_editing.py` has those of `fit_blendshapes`, on what the fit gives an edit."""
