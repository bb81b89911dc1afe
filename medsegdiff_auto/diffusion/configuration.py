"""The diffusion section of a plan, stored in the plans JSON beside what nnU-Net plans.

A plan's configuration (``3d_fullres``) holds it under the key ``diffusion``; nnU-Net leaves unknown keys alone. It has
four sections, ``network``, ``noise``, ``loss`` and ``sampling``, each of which checks its own values.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from medsegdiff_auto.diffusion.fields import check_fields, flag, is_number, is_whole, number, one_of, several, whole
from medsegdiff_auto.diffusion.plan_versions import VERSION, upgraded
from medsegdiff_auto.diffusion.schedules import SCHEDULES, SHIFT_DECIMALS, Schedule, log_snr_shift
from medsegdiff_auto.tables import DECODERS, SOLVERS

PLANS_KEY = "diffusion"
TARGETS = ("classes", "regions")
ARCHITECTURES = ("conditioned", "two_encoders", "concatenated")
PARAMETERISATIONS = ("x_start", "noise", "v")
# name: what it compares
LOSSES = {"cross_entropy": ("x_start",), "energy_score": ("x_start",), "mse": ("noise", "v"),
          "multiscale_mse": ("noise", "v")}


@dataclass(frozen=True)
class NetworkSection:
    """What the denoiser is and what it sees.

    Attributes:
        architecture: ``conditioned`` (nnU-Net's network and a denoiser on its features), ``two_encoders`` (MedSegDiff
            as published) or ``concatenated`` (a denoiser that gets the image beside the state).
        parameterisation: what the network predicts, ``x_start`` (as logits), ``noise`` or ``v``.
        first_stage: stage of nnU-Net's network at whose resolution the denoiser begins; 0 is full resolution. Above,
            its finest stage works on cells of the state (space-to-depth).
        features_per_stage: channels of the denoiser, finest stage first.
        dynamic_encoding: the image features meet the mask features at every stage, by FF-Parser and attentive fusion.
        anchor_attention: MedSegDiff-V2's attention of the finest stage to the smoothed image features.
        spectrum_transformer_layers: of MedSegDiff-V2's SS-Former at the lowest resolution; 0 for none.
        transformer_layers: of a U-ViT's transformer at the lowest resolution; 0 leaves one self-attention.
        bottleneck_attention_heads: heads of the attention at the lowest resolution; 0 switches it off.
        filter_grid_size: points per axis of the FF-Parser's learned filter, interpolated to every feature map.
        dropout: probability, at the two lowest resolutions only.
        sees_state: false makes the no-diffusion twin: the same network and training with an empty state, at t = 1.
        frozen_conditioner: the conditioner keeps the weights that it came with, those of a trained nnU-Net.
        gradient_into_conditioner: the denoiser's loss trains the conditioner too.
        latent_scales: distances of the nodes of the latent noise, in structure diameters; empty for none.
        latent_channels: fields of latent noise at each scale.
    """

    architecture: str = one_of(ARCHITECTURES)
    parameterisation: str = one_of(PARAMETERISATIONS)
    first_stage: int = whole(0)
    features_per_stage: tuple[int, ...] = several(lambda n: is_whole(n) and n > 0, "whole numbers above 0")
    dynamic_encoding: bool = flag()
    anchor_attention: bool = flag()
    spectrum_transformer_layers: int = whole(0)
    transformer_layers: int = whole(0)
    bottleneck_attention_heads: int = whole(0)
    filter_grid_size: int = whole(3)
    dropout: float = number(0, below=1)
    sees_state: bool = flag()
    frozen_conditioner: bool = flag()
    gradient_into_conditioner: bool = flag()
    latent_scales: tuple[float, ...] = several(lambda scale: is_number(scale) and scale > 0, "numbers above 0")
    latent_channels: int = whole(0)

    def __post_init__(self):
        check_fields(self, "network")
        if self.filter_grid_size % 2 == 0:
            raise ValueError(
                f"network.filter_grid_size is {self.filter_grid_size}, expected an odd number: zero is one point")
        if not self.features_per_stage:
            raise ValueError("network.features_per_stage is empty, expected a number of channels per stage")
        heads, lowest = self.bottleneck_attention_heads, self.features_per_stage[-1]
        if heads and lowest % heads:
            raise ValueError(
                f"network.bottleneck_attention_heads is {heads}, expected a divisor of the {lowest} channels")
        if self.frozen_conditioner and (self.gradient_into_conditioner or self.architecture != "conditioned"):
            raise ValueError("network.frozen_conditioner needs a conditioner that gets no gradient")
        if bool(self.latent_scales) != bool(self.latent_channels):
            raise ValueError(f"network.latent_channels is {self.latent_channels} with latent_scales "
                             f"{list(self.latent_scales)}, expected both or neither")
        if self.latent_scales and (self.parameterisation != "x_start" or self.architecture == "two_encoders"):
            raise ValueError("network.latent_scales needs a denoiser that predicts the logits of x_0")


@dataclass(frozen=True)
class NoiseSection:
    """The noise schedule.

    Attributes:
        schedule: ``cosine`` (shifted by :attr:`log_snr_shift`) or ``linear`` (DDPM's, ``num_train_steps`` betas).
        reference_vox: structure diameter, in voxels, at which the cosine is not shifted; None never shifts.
        structure_diameter_vox: typical diameter of the structures per axis of the patch, in voxels.
        num_train_steps: T of a discrete schedule; continuous schedules ignore it.
    """

    schedule: str = one_of(SCHEDULES)
    reference_vox: float | None = number(above=0, optional=True)
    structure_diameter_vox: tuple[float, ...] = several(lambda d: is_number(d) and d > 0, "numbers above 0")
    num_train_steps: int = whole(1)

    def __post_init__(self):
        check_fields(self, "noise")
        if self.schedule == "linear" and self.reference_vox is not None:
            raise ValueError(
                f"noise.reference_vox is {self.reference_vox}, expected nothing: the linear schedule has no shift")

    @property
    def log_snr_shift(self) -> float:
        """Added to the log signal-to-noise ratio at every t, dimensionless; rounded, so that a plan shows all of it."""
        if self.reference_vox is None:
            return 0.0
        return round(log_snr_shift(self.structure_diameter_vox, self.reference_vox), SHIFT_DECIMALS)

    @property
    def law(self) -> Schedule:
        """The schedule as a function of t."""
        return Schedule(self.schedule, self.log_snr_shift, self.num_train_steps)


@dataclass(frozen=True)
class LossSection:
    """What the denoiser's output is compared by, and how it is trained.

    Attributes:
        name: ``cross_entropy`` of the predicted x_0, ``energy_score`` of several draws of it, or ``mse`` or
            ``multiscale_mse`` of the noise or v.
        multiscale_size: coarsest side of ``multiscale_mse``, in voxels; 0 for the other losses.
        anchor_loss_interval: every how many iterations MedSegDiff-V2's loss on the conditioner's prediction counts; 0
            leaves the conditioner nnU-Net's loss.
        recycling_share: share of the training samples whose state is the model's own re-noised prediction.
        initial_learning_rate: of the denoiser's AdamW, decayed by nnU-Net's polynomial.
        ema_length: length of the weight average relative to the whole training.
        num_training_draws: predictions of one state that the energy score compares; 1 for the other losses.
        class_weights: of every output channel in the energy score; empty for 1.
        pure_noise_share: share of the training samples at t = 1.
    """

    name: str = one_of(LOSSES)
    multiscale_size: int = whole(0)
    anchor_loss_interval: int = whole(0)
    recycling_share: float = number(0, 1)
    initial_learning_rate: float = number(above=0)
    ema_length: float = number(above=0, below=1)
    num_training_draws: int = whole(1)
    class_weights: tuple[float, ...] = several(lambda weight: is_number(weight) and weight >= 0, "numbers from 0")
    pure_noise_share: float = number(0, 1)

    def __post_init__(self):
        check_fields(self, "loss")
        if (self.name == "multiscale_mse") != bool(self.multiscale_size):
            raise ValueError(f"loss.multiscale_size is {self.multiscale_size} with {self.name}, expected a size with "
                             "multiscale_mse and 0 with any other")
        if (self.name == "energy_score") != (self.num_training_draws > 1):
            raise ValueError(f"loss.num_training_draws is {self.num_training_draws} with {self.name}, expected at "
                             "least 2 with energy_score and 1 with any other")
        if self.class_weights and self.name != "energy_score":
            raise ValueError(f"loss.class_weights is {list(self.class_weights)} with {self.name}, expected none")


@dataclass(frozen=True)
class SamplingSection:
    """How masks are drawn and decided.

    Attributes:
        solver: a row of :data:`~medsegdiff_auto.tables.SOLVERS`.
        num_steps: network evaluations per sample.
        dispersion: tau, standard deviation of the latent noise, above 0 and 1 as trained; 0 for a network without.
            ``medsegdiff_calibrate`` fits it.
        fusion: how samples become one mask, a row of :data:`~medsegdiff_auto.tables.DECODERS`.
        num_samples: masks drawn per case and fold.
        num_mirrors: mirrored views, of the 2^d that nnU-Net uses; samples are dealt to them in turn.
        conditioner_weight: weight of the plain network's probabilities in the fused mean, below 1: a mask of the plain
            network alone is nnU-Net's own, with all mirrors.
    """

    solver: str = one_of(SOLVERS.names)
    num_steps: int = whole(1)
    dispersion: float = number(0)
    fusion: str = one_of(DECODERS.names)
    num_samples: int = whole(1)
    num_mirrors: int = whole(1)
    conditioner_weight: float = number(0, below=1)

    def __post_init__(self):
        check_fields(self, "sampling")


SECTIONS = {"network": NetworkSection, "noise": NoiseSection, "loss": LossSection, "sampling": SamplingSection}


@dataclass(frozen=True)
class DiffusionConfiguration:
    """Everything that the diffusion adds to an nnU-Net configuration.

    Attributes:
        preset: name of the fragment in ``plans/`` that it was planned with; nothing depends on it.
        target: ``classes`` (softmax over labels) or ``regions`` (one sigmoid per region).
    """

    preset: str
    target: str
    network: NetworkSection
    noise: NoiseSection
    loss: LossSection
    sampling: SamplingSection

    def __post_init__(self):
        if self.target not in TARGETS:
            raise ValueError(f"target is {self.target!r}, expected one of {', '.join(TARGETS)}")
        compared, predicted = LOSSES[self.loss.name], self.network.parameterisation
        if predicted not in compared:
            raise ValueError(f"loss.name is {self.loss.name!r}, expected a loss of {predicted}: "
                             f"{', '.join(name for name, compares in LOSSES.items() if predicted in compares)}")
        if self.network.latent_scales and not self.sampling.dispersion:
            raise ValueError("sampling.dispersion is 0 with latent noise, expected above 0, and 1 for noise as trained")
        if self.sampling.dispersion and not self.network.latent_scales:
            raise ValueError(f"sampling.dispersion is {self.sampling.dispersion} without latent noise, expected 0")
        if not self.network.sees_state and self.sampling.num_steps > 1:
            raise ValueError(f"sampling.num_steps is {self.sampling.num_steps} for a denoiser that sees no state, "
                             "expected 1")
        if self.noise.schedule == "linear" and self.sampling.num_steps > self.noise.num_train_steps:
            raise ValueError(f"sampling.num_steps is {self.sampling.num_steps}, expected at most the "
                             f"{self.noise.num_train_steps} of the linear schedule")

    @property
    def has_expected_mask(self) -> bool:
        """Whether samples differ by latent noise alone, so that their mean is known without drawing any."""
        return bool(self.network.latent_scales) and not self.network.sees_state

    def changed(self, **values: Any) -> DiffusionConfiguration:
        """A copy with other values, each by the name of its field in whichever section has it."""
        of_section = {name: {key: values.pop(key) for key in list(values) if key in field_names(section)}
                      for name, section in SECTIONS.items()}
        sections = {name: replace(getattr(self, name), **of_this) for name, of_this in of_section.items() if of_this}
        return replace(self, **sections, **values)

    def to_plan(self) -> dict:
        """The JSON form, with its version; tuples as lists."""
        return {"version": VERSION} | _with_lists(asdict(self))

    @classmethod
    def from_plan(cls, section: dict) -> DiffusionConfiguration:
        """Reads the JSON form of this version or an earlier one.

        Raises:
            ValueError: a key is unknown or missing, a value is not allowed, or the version is a later one.
        """
        section = upgraded(section)
        require_keys(section, "diffusion", {"version", *field_names(cls)})
        for name, kind in SECTIONS.items():
            require_keys(section[name], name, field_names(kind))
        sections = {name: kind(**_with_tuples(section[name])) for name, kind in SECTIONS.items()}
        return cls(section["preset"], section["target"], **sections)


def section_of_preset(preset: dict, target: str, **derived: Any) -> DiffusionConfiguration:
    """The diffusion section of a preset fragment, whose other fields are derived from a dataset.

    Args:
        preset: has the four sections, as far as they do not depend on the dataset.
        derived: values by the names of their fields.
    """
    sections = {}
    for name, kind in SECTIONS.items():
        of_section = {key: value for key, value in derived.items() if key in field_names(kind)}
        sections[name] = kind(**_with_tuples(preset[name]), **of_section)
    return DiffusionConfiguration(preset["preset"], target, **sections)


def field_names(section: type) -> set[str]:
    """Names of the fields of a dataclass."""
    return {one.name for one in fields(section)}


def require_keys(section: Any, name: str, expected: set[str]) -> None:
    """Checks that a section of a plan has all its keys and no other.

    Raises:
        ValueError: it has not, or is no section.
    """
    if not isinstance(section, dict):
        raise ValueError(f"{name} of the plan is {section!r}, expected the keys {sorted(expected)}")
    unknown, missing = sorted(set(section) - expected), sorted(expected - set(section))
    if unknown or missing:
        raise ValueError(f"{name} section of the plan: unknown keys {unknown}, missing keys {missing}")


def _with_tuples(values: dict) -> dict:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def _with_lists(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: _with_lists(value) for key, value in values.items()}
    return list(values) if isinstance(values, tuple) else values
