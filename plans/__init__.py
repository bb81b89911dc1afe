"""Preset plan fragments."""
