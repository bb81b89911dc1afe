"""Overlap, surface and calibration metrics."""
