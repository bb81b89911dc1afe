"""The diffusion section of a plan: one frozen dataclass, stored in the plans JSON and carried by the checkpoint.

A plan's configuration (``3d_fullres``) holds it under the key ``diffusion``; nnU-Net leaves unknown keys alone.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

PLANS_KEY = "diffusion"


@dataclass(frozen=True)
class DiffusionConfiguration:
    """Everything that the diffusion adds to an nnU-Net configuration.

    Attributes:
        preset: ``auto`` or ``paper``.
        target: ``classes`` (softmax over labels) or ``regions`` (one sigmoid per region).
        parameterisation: what the network predicts, ``x_start`` (as logits) or ``noise``.
        schedule: ``cosine`` (shifted by ``log_snr_shift``) or ``linear`` (DDPM's, ``num_train_steps`` betas).
        log_snr_shift: added to the log signal-to-noise ratio at every t; dimensionless.
        num_train_steps: T of a discrete schedule; continuous schedules ignore it.
        structure_diameter_vox: typical diameter of the structures per axis of the patch, in voxels; the reason
            for ``log_snr_shift``.
        features_per_stage: channels of the denoiser, finest stage first. The finest stage of ``auto`` works on the
            space-to-depth of the state; that of ``paper`` at full resolution.
        bottleneck_attention_heads: heads of the self-attention at the lowest resolution; 0 switches it off.
        filter_grid_size: points per axis of the FF-Parser's learned filter, interpolated to every feature map.
        dropout: probability, at the two lowest resolutions only.
        cross_entropy_weight, dice_weight: of the loss on the predicted x_0 (``x_start`` only).
        recycling_share: share of the training samples whose state is the model's own re-noised prediction, [0, 1].
        initial_learning_rate: of the denoiser's AdamW, decayed by nnU-Net's polynomial.
        ema_length: length of the weight average relative to the whole training, (0, 1).
        solver: ``ddim``, ``ddpm`` (DDIM with eta = 1) or ``dpm_solver_pp_2m``.
        num_steps: network evaluations per sample.
        start_time: t at which sampling starts; below 1 it starts from the noised conditioner prediction.
        num_samples: masks drawn per case and fold.
        num_mirrors: mirrored views, of the 2^d that nnU-Net uses; samples are dealt to them in turn.
        conditioner_weight: weight of the plain network's probabilities in the fused mean, [0, 1].
        denoiser_cost: cost of one denoiser evaluation in conditioner forwards, estimated at planning time.
    """

    preset: str
    target: str
    parameterisation: str
    schedule: str
    log_snr_shift: float
    num_train_steps: int
    structure_diameter_vox: tuple[float, ...]
    features_per_stage: tuple[int, ...]
    bottleneck_attention_heads: int
    filter_grid_size: int
    dropout: float
    cross_entropy_weight: float
    dice_weight: float
    recycling_share: float
    initial_learning_rate: float
    ema_length: float
    solver: str
    num_steps: int
    start_time: float
    num_samples: int
    num_mirrors: int
    conditioner_weight: float
    denoiser_cost: float

    def to_plan(self) -> dict:
        """The JSON form, tuples as lists."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_plan(cls, section: dict) -> "DiffusionConfiguration":
        """Reads the JSON form; an unknown or a missing key is a ``ValueError`` that names it."""
        known = {field.name for field in fields(cls)}
        unknown, missing = sorted(set(section) - known), sorted(known - set(section))
        if unknown or missing:
            raise ValueError(f"diffusion section of the plan: unknown keys {unknown}, missing keys {missing}")
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in section.items()})
