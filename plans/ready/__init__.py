"""Finished plans of public datasets."""
