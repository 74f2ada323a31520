"""Figures of one paper each."""
