"""Measurements of whether the samples are true, and of what they are worth."""
