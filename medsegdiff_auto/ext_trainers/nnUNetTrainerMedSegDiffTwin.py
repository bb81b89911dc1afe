"""Hands the installed class of the no-diffusion twin to nnU-Net's look-up."""

from medsegdiff_auto.training.twin import nnUNetTrainerMedSegDiffTwin  # noqa: F401
