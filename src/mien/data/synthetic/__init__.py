"""Faces that are drawn or rendered."""
