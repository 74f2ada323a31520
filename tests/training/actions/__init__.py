"""Tests of `mien.training.landmarks`, one file a module."""
