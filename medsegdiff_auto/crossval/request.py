"""What a cross-validation is asked for, and the folders that follow from it. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medsegdiff_auto.crossval.methods import METHODS, NNUNET, OURS, UPGRADE, Method
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.nnunet.dataset_files import NUM_FOLDS, SPLITS_FILE, read_splits
from medsegdiff_auto.nnunet.known_names import read_plans
from medsegdiff_auto.paths import OUR_PLANS

UPGRADE_SHARE = 10  # an upgrade trains for a tenth of the iterations


@dataclass(frozen=True)
class Request:
    """The words of ``medsegdiff_crossval``.

    Attributes:
        dataset: its name.
        raw, preprocessed, results: nnU-Net's folders of the dataset.
        methods: compared, ours first.
        plans: name of the plans of ours.
        num_processes: of planning, preprocessing and the choice.
    """

    dataset: str
    raw: Path
    preprocessed: Path
    results: Path
    configurations: tuple[str, ...]
    methods: tuple[str, ...] = (OURS,)
    folds: tuple[int, ...] = (0, 1, 2, 3, 4)
    plans: str = OUR_PLANS
    resources: str = "gpu"
    iterations: int | None = None
    epochs: int | None = None
    seed: int | None = None
    device: str = "cuda"
    num_processes: int = 1

    @property
    def number(self) -> str:
        """The dataset's ID."""
        return str(int(self.dataset[7:10]))

    @property
    def trained(self) -> list[Method]:
        """The methods that are trained by themselves, those that others are trained from first."""
        needed = dict.fromkeys(METHODS[name].training for name in self.methods)
        if UPGRADE in needed:
            needed = {**dict.fromkeys(name for name in needed if name != UPGRADE), NNUNET: None, UPGRADE: None}
        return [METHODS[name] for name in needed]

    @property
    def comparison(self) -> Path:
        """Folder of predictions, jobs and tables."""
        return self.results / "comparison"

    def predictions(self, method: str) -> Path:
        """Folder of a method's predictions of all training cases, each by its own fold."""
        return self.comparison / "predictions" / method

    def fit(self, method: str, fold: int) -> Path:
        """What a fold of a method predicts with, taken from the other folds."""
        return self.comparison / "fits" / method / f"fold_{fold}.json"

    def predicted(self, method: str, fold: int) -> Path:
        """The record that the cases of a fold are all predicted."""
        return self.comparison / "fits" / method / f"fold_{fold}_predicted.json"

    def model(self, method: str, configuration: str) -> Path:
        """Folder of a method's model."""
        return self.results / METHODS[METHODS[method].training].model(self.plans, configuration)

    def checkpoint(self, method: str, configuration: str, fold: int) -> Path:
        """File of a trained fold."""
        return self.model(method, configuration) / f"fold_{fold}" / "checkpoint_final.pth"


def folds_of_split(raw: Path, preprocessed: Path, wanted: list[int] | None) -> tuple[int, ...]:
    """The folds that are asked for, or all: of the preprocessed dataset's split, the raw one's, or nnU-Net's five.

    Raises:
        UserError: one of them is not in the split.
    """
    folder = next((folder for folder in (preprocessed, raw) if (folder / SPLITS_FILE).is_file()), None)
    number = NUM_FOLDS if folder is None else len(read_splits(folder))
    missing = [fold for fold in wanted or () if fold >= number]
    if missing:
        raise UserError("The split has no such fold.", found=", ".join(map(str, missing)),
                        expected=f"0 to {number - 1}", fix="correct -f")
    return tuple(sorted(set(wanted))) if wanted else tuple(range(number))


def usual_configuration(preprocessed: Path, plans: str) -> str:
    """3d_fullres where the plans have it, else 2d.

    Raises:
        UserError: there are no plans yet.
    """
    file = preprocessed / f"{plans}.json"
    if not file.is_file():
        raise UserError("Nothing is planned yet, and no configuration named.", found=f"no {file}",
                        expected="-c, or plans", fix="add -c 2d or -c 3d_fullres")
    planned = read_plans(file)["configurations"]
    return "3d_fullres" if "3d_fullres" in planned else "2d"
