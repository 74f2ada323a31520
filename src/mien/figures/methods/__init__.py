"""Figures specific to one method each."""
