"""Integrity check, fingerprint additions and the planner."""
