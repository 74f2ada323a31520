"""Tests of `mien.training`, one file a module."""
