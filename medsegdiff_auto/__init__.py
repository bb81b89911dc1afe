"""MedSegDiff-Auto: nnU-Net's automation around a MedSegDiff trainer.

    from medsegdiff_auto import Segmenter
    prediction = Segmenter(model_folder).predict("scan_0000.nii.gz")

Importing this package is free of torch, so that every command answers ``--help`` at once; Segmenter, Prediction and
predict are loaded when they are asked for.
"""

__version__ = "0.1.0"

_FROM_PYTHON = ("Prediction", "Segmenter", "predict")
__all__ = [*_FROM_PYTHON, "__version__"]


def __getattr__(name: str):
    if name not in _FROM_PYTHON:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    import os
    from importlib import import_module

    from medsegdiff_auto.cores import num_cores

    # threads of nnU-Net's export, read when it is imported
    os.environ.setdefault("nnUNet_def_n_proc", str(num_cores()))
    return getattr(import_module("medsegdiff_auto.inference.segmenter"), name)
