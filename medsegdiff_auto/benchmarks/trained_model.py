"""What the benchmarks of a trained model share: its flags, the model itself, and means over its cases."""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from collections.abc import Callable, Sequence

import numpy as np

from medsegdiff_auto import paths
from medsegdiff_auto.inference.model import TrainedModel, load_model


def model_parser(description: str) -> argparse.ArgumentParser:
    """A parser with the flags that name a model but for its folds."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("-d", required=True, help="dataset")
    parser.add_argument("-c", required=True, help="configuration")
    parser.add_argument("-p", default=paths.OUR_PLANS, help="plans of the model")
    return parser


def folder_of(args: argparse.Namespace, trainer: str = paths.OUR_TRAINER) -> Path:
    """The model's folder by its flags."""
    return paths.model_folder(args.d, args.c, args.p, trainer)


def model_of(args: argparse.Namespace, fold: int | str, use_fitted: bool = False,
             trainer: str = paths.OUR_TRAINER) -> TrainedModel:
    """One fold of the model, by default as it was planned."""
    return load_model(folder_of(args, trainer), [fold], use_fitted=use_fitted)


def case_means(rows: Sequence[dict], value: Callable[[dict], float]) -> list[float]:
    """Mean of a value over the rows of every case, its structures; cases in which it is NaN throughout are left out."""
    of_case = defaultdict(list)
    for row in rows:
        of_case[row["case"]].append(value(row))
    return [float(np.nanmean(values)) for values in of_case.values() if np.isfinite(values).any()]
