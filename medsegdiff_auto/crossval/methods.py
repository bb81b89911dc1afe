"""The table of methods that a cross-validation can compare. Free of torch.

``nnunet_adamw`` is not trained by itself: its network is the one in the checkpoints of ``auto``, by nnU-Net's own
predictor with all mirrors. It has nnU-Net's plan, loss, batches, iterations and seed, and the optimizer of ``auto``
(AdamW below 10,000 iterations, else nnU-Net's); the denoiser trained beside it gives it no gradient, so that a training
without one ends with the same weights (tests/crossval/test_adamw.py). What ``auto`` has more than it is diffusion.
"""

from __future__ import annotations

from dataclasses import dataclass

from medsegdiff_auto.paths import OUR_TRAINER, UPGRADED_PLANS, model_name

OURS, NNUNET, ADAMW, UPGRADE = "auto", "nnunet", "nnunet_adamw", "upgrade"
NNUNET_TRAINER = "nnUNetTrainer"
WITH_TEMPERATURE = "+T"
SAMPLING, TEMPERATURE, NOTHING = "sampling", "temperature", "nothing"


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes:
        trainer: of ``medsegdiff_train -tr``.
        trained_as: the method whose checkpoints it takes; its own name where it is trained by itself.
        plans_suffix: behind the name of the plans of ``auto``, for plans of its own.
        planning: flags of ``medsegdiff_plan_and_preprocess`` for plans of its own.
        is_plain: whether nnU-Net's predictor predicts; else samples are drawn.
        fitted: what is taken from the other folds: ``sampling`` (all that medsegdiff_calibrate fits) or ``nothing``;
            its temperature alone makes a further method, NAME+T.
    """

    name: str
    title: str
    trainer: str = OUR_TRAINER
    trained_as: str = ""
    plans_suffix: str = ""
    planning: tuple[str, ...] = ()
    is_plain: bool = False
    fitted: str = NOTHING

    @property
    def training(self) -> str:
        """The method that is trained for it."""
        return self.trained_as or self.name

    def plans(self, plans: str) -> str:
        """Name of its plans, beside those of ``auto`` of this name."""
        return f"{UPGRADED_PLANS}{plans}" if self.name == UPGRADE else f"{plans}{self.plans_suffix}"

    def model(self, plans: str, configuration: str) -> str:
        """Name of the folder of its model."""
        return model_name(self.trainer, self.plans(plans), configuration)


METHODS = {method.name: method for method in (
    Method(OURS, "MedSegDiff-Auto", fitted=SAMPLING),
    Method(NNUNET, "nnU-Net", NNUNET_TRAINER, is_plain=True),
    Method(ADAMW, "nnU-Net, trained as in MedSegDiff-Auto", trained_as=OURS, is_plain=True),
    Method("resenc", "nnU-Net ResEnc M", NNUNET_TRAINER, plans_suffix="ResEncM", planning=("--encoder", "resenc_m"),
           is_plain=True),
    Method("twin", "MedSegDiff-Auto without latent noise and state", f"{OUR_TRAINER}Twin", fitted=SAMPLING),
    Method("paper", "MedSegDiff as published", plans_suffix="Paper", planning=("--preset", "paper")),
    Method(UPGRADE, "nnU-Net, upgraded", fitted=SAMPLING))}
COMPETITORS = tuple(name for name in METHODS if name != OURS)


def with_temperature(methods: tuple[str, ...]) -> tuple[str, ...]:
    """The methods of the table of results: behind each whose sampling is not fitted, itself with its temperature."""
    return tuple(row for name in methods for row in (
        (name,) if METHODS[name].fitted == SAMPLING else (name, f"{name}{WITH_TEMPERATURE}")))
