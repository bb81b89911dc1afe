"""Synthetic segmentation cases whose true joint posterior P(mask | image) is known."""
