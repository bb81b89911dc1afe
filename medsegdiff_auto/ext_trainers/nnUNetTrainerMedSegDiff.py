"""Hands the installed trainer class to nnU-Net's look-up, which would make a new class at each import of a whole file.
"""

from medsegdiff_auto.training.trainer import nnUNetTrainerMedSegDiff  # noqa: F401
