"""The diffusion section of a plan: one frozen dataclass, stored in the plans JSON and carried by the checkpoint.

A plan's configuration (``3d_fullres``) holds it under the key ``diffusion``; nnU-Net leaves unknown keys alone.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

from medsegdiff_auto.diffusion.process import PARAMETERISATIONS

PLANS_KEY = "diffusion"
NETWORKS = ("conditioned", "two_encoders", "concatenated")
TARGETS = ("classes", "regions")
TIME_WEIGHTINGS = ("none", "min_snr", "sigmoid")
FUSIONS = ("mean", "staple", "dice")


@dataclass(frozen=True)
class DiffusionConfiguration:
    """Everything that the diffusion adds to an nnU-Net configuration.

    Attributes:
        preset: name of the fragment in ``plans/`` that it was planned with; nothing depends on it.
        network: ``conditioned`` (nnU-Net's network and a denoiser on its features), ``two_encoders`` (MedSegDiff as
            published) or ``concatenated`` (a denoiser that gets the image beside the state).
        target: ``classes`` (softmax over labels) or ``regions`` (one sigmoid per region).
        parameterisation: what the network predicts, ``x_start`` (as logits), ``noise`` or ``v``.
        schedule: ``cosine`` (shifted by ``log_snr_shift``) or ``linear`` (DDPM's, ``num_train_steps`` betas).
        log_snr_shift: added to the log signal-to-noise ratio at every t; dimensionless.
        num_train_steps: T of a discrete schedule; continuous schedules ignore it.
        zero_terminal_snr: the linear schedule ends in pure noise; not with ``noise``, which says nothing about x_0 there.
        structure_diameter_vox: typical diameter of the structures per axis of the patch, in voxels; the reason
            for ``log_snr_shift``.
        first_stage: stage of nnU-Net's network at whose resolution the denoiser begins; 0 is full resolution. Above, its
            finest stage works on cells of the state (space-to-depth).
        features_per_stage: channels of the denoiser, finest stage first.
        dynamic_encoding: the image features meet the mask features at every stage, by FF-Parser and attentive fusion.
        anchor_attention: MedSegDiff-V2's attention of the finest stage to the smoothed image features.
        spectrum_transformer_layers: of MedSegDiff-V2's SS-Former at the lowest resolution; 0 for none.
        transformer_layers: of a U-ViT's transformer at the lowest resolution; 0 leaves one self-attention.
        bottleneck_attention_heads: heads of the attention at the lowest resolution; 0 switches it off.
        filter_grid_size: points per axis of the FF-Parser's learned filter, interpolated to every feature map.
        dropout: probability, at the two lowest resolutions only.
        sees_state: false makes the no-diffusion twin: the same network and training with an empty state, at t = 1.
        self_conditioning: the denoiser also sees its previous prediction of x_0 (Chen et al. 2023).
        frozen_conditioner: the conditioner keeps the weights that it came with, those of a trained nnU-Net.
        gradient_into_conditioner: the denoiser's loss trains the conditioner too.
        cross_entropy_weight, dice_weight: of the loss on the predicted x_0 (``x_start`` only).
        time_weighting: of the squared error (``noise`` and ``v``): ``none``, ``min_snr`` or ``sigmoid``.
        multiscale_size: coarsest side of the multiscale squared error, in voxels; 0 compares at full resolution only.
        anchor_loss_interval: every how many iterations MedSegDiff-V2's loss on the conditioner's prediction counts; 0
            leaves the conditioner nnU-Net's loss.
        recycling_share: share of the training samples whose state is the model's own re-noised prediction, [0, 1].
        initial_learning_rate: of the denoiser's AdamW, decayed by nnU-Net's polynomial.
        ema_length: length of the weight average relative to the whole training, (0, 1).
        solver: ``ddim``, ``ddpm`` (DDIM with eta = 1) or ``dpm_solver_pp_2m``.
        num_steps: network evaluations per sample.
        start_time: t at which sampling starts; below 1 it starts from the noised conditioner prediction.
        state_guidance: gamma >= 1 in l(first) + gamma (l(x_t) - l(first)), which makes every step rely more on the state
            than the network itself does, and so draws samples further apart; 1 leaves the network's prediction.
        dispersion: tau >= 0, standard deviation of the smooth field that is added to the logits of every sample, so that its
            boundaries move as a whole; fitted by ``medsegdiff_calibrate``; 0 leaves the network's prediction.
        fusion: how samples become one mask: ``mean`` (of probabilities), ``staple`` or ``dice``.
        num_samples: masks drawn per case and fold.
        num_mirrors: mirrored views, of the 2^d that nnU-Net uses; samples are dealt to them in turn.
        conditioner_weight: weight of the plain network's probabilities in the fused mean, [0, 1].
        denoiser_cost: cost of one denoiser evaluation in conditioner forwards, estimated at planning time.
    """

    preset: str
    network: str
    target: str
    parameterisation: str
    schedule: str
    log_snr_shift: float
    num_train_steps: int
    zero_terminal_snr: bool
    structure_diameter_vox: tuple[float, ...]
    first_stage: int
    features_per_stage: tuple[int, ...]
    dynamic_encoding: bool
    anchor_attention: bool
    spectrum_transformer_layers: int
    transformer_layers: int
    bottleneck_attention_heads: int
    filter_grid_size: int
    dropout: float
    sees_state: bool
    self_conditioning: bool
    frozen_conditioner: bool
    gradient_into_conditioner: bool
    cross_entropy_weight: float
    dice_weight: float
    time_weighting: str
    multiscale_size: int
    anchor_loss_interval: int
    recycling_share: float
    initial_learning_rate: float
    ema_length: float
    solver: str
    num_steps: int
    start_time: float
    state_guidance: float
    dispersion: float
    fusion: str
    num_samples: int
    num_mirrors: int
    conditioner_weight: float
    denoiser_cost: float

    def __post_init__(self):
        for name, value, allowed in (("network", self.network, NETWORKS), ("target", self.target, TARGETS),
                                     ("parameterisation", self.parameterisation, PARAMETERISATIONS),
                                     ("time_weighting", self.time_weighting, TIME_WEIGHTINGS), ("fusion", self.fusion, FUSIONS)):
            if value not in allowed:
                raise ValueError(f"{name} is {value!r}, expected one of {allowed}")
        if self.parameterisation == "noise" and self.zero_terminal_snr:
            raise ValueError("zero_terminal_snr needs x_start or v: pure noise says nothing about x_0")

        if self.frozen_conditioner and (self.gradient_into_conditioner or self.network != "conditioned"):
            raise ValueError("frozen_conditioner needs a conditioner that gets no gradient")

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
