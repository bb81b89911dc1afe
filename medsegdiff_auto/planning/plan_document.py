"""``plan.md``: every number of the plan with its reason, for a person."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medsegdiff_auto.diffusion.configuration import PLANS_KEY, DiffusionConfiguration, NetworkSection
from medsegdiff_auto.nnunet.inheritance import NETWORK, holder, network_arguments
from medsegdiff_auto.planning.fingerprint import STRUCTURES_KEY
from medsegdiff_auto.tables import DECODERS
from medsegdiff_auto.writing import write_text

NETWORK_WORDS = {"conditioned": "on the features of nnU-Net's network", "two_encoders": "two encoders and one decoder",
                 "concatenated": "with the image beside the state"}


def numbers(values) -> str:
    """``40 x 56 x 40`` for a list of numbers, at most three significant decimals."""
    return " x ".join(f"{v:g}" if isinstance(v, int) else f"{v:.3g}" for v in values)


def structure_table(structures: dict[str, dict]) -> list[str]:
    """A Markdown table of the fingerprint's structures."""
    rows = ["| structure | in cases | components | volume (ml) | share of the image | diameter per axis (mm) |",
            "|---|---|---|---|---|---|"]
    for name, s in structures.items():
        if s["share_of_cases"] == 0:
            rows.append(f"| {name} | 0 % | - | - | - | - |")
            continue
        rows.append(f"| {name} | {s['share_of_cases']:.0%} | {s['num_components']:g} | {s['volume_mm3'] / 1000:.3g} | "
                    f"{s['volume_fraction']:.2%} | {numbers(s['diameter_mm'])} |")
    return rows


def network_lines(configuration: dict) -> list[str]:
    """What nnU-Net derived."""
    arch = network_arguments(configuration)
    return [
        f"- **Target spacing** {numbers(configuration['spacing'])}: the median of the dataset "
        "(nnU-Net lowers it along a strongly anisotropic axis).",
        f"- **Patch** {numbers(configuration['patch_size'])} voxels of a median image of "
        f"{numbers(configuration['median_image_size_in_voxels'])}: as large as the memory target allows, "
        "in the image's aspect ratio.",
        f"- **Batch** {configuration['batch_size']}: what memory remains, capped by 5 % of the dataset's voxels "
        "and by the resource limits.",
        f"- **Normalisation** {', '.join(configuration['normalization_schemes'])}: by the channel names in "
        "dataset.json (CT: clipped and standardised with the dataset's foreground intensities; others: z-score per "
        "image).",
        f"- **Depth** {arch['n_stages']} stages, strides {arch['strides']}, channels "
        f"{list(arch['features_per_stage'])}: "
        "pooling stops at feature maps of 4 voxels.",
    ]


def diffusion_lines(diffusion: DiffusionConfiguration, denoiser_cost: float, dimension: int) -> list[str]:
    """What MedSegDiff-Auto derived."""
    network, noise, loss, sampling = diffusion.network, diffusion.noise, diffusion.loss, diffusion.sampling
    lines = [f"- **Preset** `{diffusion.preset}`, target `{diffusion.target}` "
             f"({'one sigmoid per region' if diffusion.target == 'regions' else 'softmax over the labels'}), "
             f"the network predicts {network.parameterisation}."]
    if noise.reference_vox is not None and network.sees_state:
        lines.append(
            f"- **Noise shift** {noise.log_snr_shift:.2f} = sum over the axes of log({noise.reference_vox:g} / d_i) "
            "with "
            f"structures of {numbers(noise.structure_diameter_vox)} voxels: a mask of that size is recovered from "
            "voxel-wise noise by averaging, so larger structures need more noise to leave any doubt.")
    lines += [
        f"- **Denoiser** {NETWORK_WORDS[network.architecture]}, channels {list(network.features_per_stage)}: the "
        "preset's share "
        f"of nnU-Net's at the same stages{left_out_words(network.first_stage)}; one evaluation costs "
        f"{denoiser_cost:.2f} of a forward of nnU-Net's network (multiply-adds).",
        f"- **Attention to the image** {attention_words(network)}.",
        f"- **Prediction** {prediction_words(diffusion, denoiser_cost)}, where nnU-Net's default takes "
        f"{2 ** dimension}.",
        f"- **Fusion** {DECODERS.row(sampling.fusion).title}, weight {sampling.conditioner_weight:g} for the plain "
        "network.",
        f"- **Training** {loss_words(diffusion)}, "
        f"{f'recycling {loss.recycling_share:.0%}, ' if network.sees_state else ''}AdamW "
        f"{loss.initial_learning_rate:g}, weight average over {loss.ema_length:.0%} of the training.",
    ]
    return lines


def prediction_words(diffusion: DiffusionConfiguration, denoiser_cost: float) -> str:
    """How samples are drawn, and what that costs beside nnU-Net's forwards."""
    sampling, views = diffusion.sampling, f"{diffusion.sampling.num_mirrors} mirrored views"
    if not diffusion.network.sees_state:
        forwards = sampling.num_mirrors * (1 + denoiser_cost)
        return (f"{sampling.num_samples} samples over {views}, each by latent noise of its own: everything before the "
                f"noise is computed once per tile and view, {forwards:.1f} forwards per tile and fold for any number "
                "of samples")
    forwards = sampling.num_mirrors + sampling.num_samples * sampling.num_steps * denoiser_cost
    return (f"{sampling.num_samples} samples of {sampling.num_steps} {sampling.solver} steps over {views}: "
            f"{forwards:.1f} forwards per tile and fold (the steps are what nnU-Net's price leaves after the mirrors, "
            "held within the limits of the preset)")


def left_out_words(first_stage: int) -> str:
    """Which of nnU-Net's stages the denoiser does not have."""
    return {0: "", 1: ", the finest of which it leaves out (space-to-depth)"}.get(
        first_stage, f", the finest {first_stage} of which it leaves out (space-to-depth)")


def attention_words(network: NetworkSection) -> str:
    """The parts of MedSegDiff, MedSegDiff-V2 and U-ViT that the plan switches on."""
    layers, heads = network.transformer_layers, network.bottleneck_attention_heads
    parts = {
        f"FF-Parser ({network.filter_grid_size} frequencies per axis, interpolated to every feature map) and attentive "
        "fusion "
        "at every stage": network.dynamic_encoding,
        "anchor attention to the smoothed features at the finest stage": network.anchor_attention,
        f"spectrum-space transformer of {network.spectrum_transformer_layers} layers at the lowest resolution":
            network.spectrum_transformer_layers,
        f"transformer of {layers} layers at the lowest resolution": layers,
        f"self-attention of {heads} heads at the lowest resolution": heads and not layers,
    }
    return "; ".join(name for name, is_on in parts.items() if is_on) or "none; the image is one more input"


def loss_words(diffusion: DiffusionConfiguration) -> str:
    """The denoiser's loss."""
    return {"cross_entropy": "cross-entropy of the predicted mask",
            "energy_score": f"energy score of {diffusion.loss.num_training_draws} predicted masks, each from its own "
                            f"latent noise (nodes at {', '.join(f'{s:g}' for s in diffusion.network.latent_scales)} "
                            "structure diameters), against the reference at every scale",
            "mse": f"mean squared error of {diffusion.network.parameterisation}",
            "multiscale_mse": f"mean squared error of {diffusion.network.parameterisation} at all scales down to "
                              f"{diffusion.loss.multiscale_size} voxels"}[diffusion.loss.name]


@dataclass(frozen=True)
class PlannedCost:
    """Predicted peak memory of training, in 1e9 bytes, and a denoiser evaluation in forwards of nnU-Net's network."""

    training_peak_gb: float
    denoiser: float


def write_plan_document(file: Path, plans: dict, fingerprint: dict, costs: dict[str, PlannedCost],
                        target_gb: float) -> None:
    """Writes the explanation of all configurations.

    Args:
        costs: of every configuration with a diffusion section.
        target_gb: that training should keep to.
    """
    lines = [f"# Plan of {plans['dataset_name']} ({plans['plans_name']})", "", "## Structures (medians over cases)", ""]
    lines += structure_table(fingerprint[STRUCTURES_KEY])
    for name, configuration in plans["configurations"].items():
        lines += ["", f"## {name}", ""]
        if NETWORK not in configuration:
            lines.append(f"Everything as in {holder(plans, name, NETWORK)}; its input gains the prediction of "
                         f"{configuration.get('previous_stage', 'the previous stage')} as one channel per label.")
            continue
        lines += network_lines(configuration)
        cost = costs[name]
        fits = "within" if cost.training_peak_gb <= target_gb else "which no patch and batch of nnU-Net's brings within"
        lines.append(f"- **Training memory** {cost.training_peak_gb:.2f} GB predicted for network, denoiser and batch "
                     "together, "
                     f"{fits} the target of {target_gb:g} GB; scratch memory of the convolutions comes on top.")
        diffusion = DiffusionConfiguration.from_plan(configuration[PLANS_KEY])
        lines += diffusion_lines(diffusion, cost.denoiser, len(configuration["patch_size"]))
    write_text("\n".join(lines) + "\n", file)
