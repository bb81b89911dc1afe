"""MedSegDiff-Auto: nnU-Net's automation around a MedSegDiff trainer.

Importing this package is free of torch, so that every command answers ``--help`` at once.
"""

__version__ = "0.1.0"
