"""``plan.md``: every number of the plan with its reason, for a person."""

from __future__ import annotations

from pathlib import Path

from medsegdiff_auto.diffusion.configuration import PLANS_KEY
from medsegdiff_auto.planning.fingerprint import STRUCTURES_KEY


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
    arch = configuration["architecture"]["arch_kwargs"]
    return [
        f"- **Target spacing** {numbers(configuration['spacing'])}: the median of the dataset "
        "(nnU-Net lowers it along a strongly anisotropic axis).",
        f"- **Patch** {numbers(configuration['patch_size'])} voxels of a median image of "
        f"{numbers(configuration['median_image_size_in_voxels'])}: as large as the memory target allows, "
        "in the image's aspect ratio.",
        f"- **Batch** {configuration['batch_size']}: what memory remains, capped by 5 % of the dataset's voxels "
        "and by the resource limits.",
        f"- **Normalisation** {', '.join(configuration['normalization_schemes'])}: by the channel names in "
        "dataset.json (CT: clipped and standardised with the dataset's foreground intensities; others: z-score per image).",
        f"- **Depth** {arch['n_stages']} stages, strides {arch['strides']}, channels {list(arch['features_per_stage'])}: "
        "pooling stops at feature maps of 4 voxels.",
    ]

FUSION_WORDS = {"mean": "mean probability", "staple": "STAPLE of the sampled masks",
                "dice": "the mask of the highest expected Dice over the samples"}


def diffusion_lines(diffusion: dict, reference_vox: float | None, dimension: int) -> list[str]:
    """What MedSegDiff-Auto derived."""
    forwards = diffusion["num_mirrors"] + diffusion["num_samples"] * diffusion["num_steps"] * diffusion["denoiser_cost"]
    lines = [f"- **Preset** `{diffusion['preset']}`, target `{diffusion['target']}` "
             f"({'one sigmoid per region' if diffusion['target'] == 'regions' else 'softmax over the labels'}), "
             f"the network predicts {diffusion['parameterisation']}."]
    if reference_vox is not None and diffusion["schedule"] == "cosine":
        lines.append(
            f"- **Noise shift** {diffusion['log_snr_shift']:.2f} = sum over the axes of log({reference_vox:g} / d_i) with "
            f"structures of {numbers(diffusion['structure_diameter_vox'])} voxels: a mask of that size is recovered from "
            "voxel-wise noise by averaging, so larger structures need more noise to leave any doubt.")
    lines += [
        f"- **Denoiser** {NETWORK_WORDS[diffusion['network']]}, channels {diffusion['features_per_stage']}: the preset's share "
        "of nnU-Net's at the same stages"
        f"{left_out_words(diffusion['first_stage'])}; one evaluation costs "
        f"{diffusion['denoiser_cost']:.2f} of a forward of nnU-Net's network (multiply-adds).",
        f"- **Attention to the image** {attention_words(diffusion)}.",
        f"- **Prediction** {diffusion['num_samples']} samples of {diffusion['num_steps']} {diffusion['solver']} steps over "
        f"{diffusion['num_mirrors']} mirrored views: {forwards:.1f} forwards per tile and fold, where nnU-Net's default "
        f"takes {2 ** dimension}. The steps are what nnU-Net's price leaves after the mirrors, held within the limits of the preset.",
        f"- **Fusion** {FUSION_WORDS[diffusion['fusion']]}, weight {diffusion['conditioner_weight']:g} for the plain network.",
        f"- **Training** {loss_words(diffusion)}, recycling {diffusion['recycling_share']:.0%}, AdamW "
        f"{diffusion['initial_learning_rate']:g}, weight average over {diffusion['ema_length']:.0%} of the training.",
    ]
    return lines


def left_out_words(first_stage: int) -> str:
    """Which of nnU-Net's stages the denoiser does not have."""
    return {0: "", 1: ", the finest of which it leaves out (space-to-depth)"}.get(
        first_stage, f", the finest {first_stage} of which it leaves out (space-to-depth)")


def attention_words(diffusion: dict) -> str:
    """The parts of MedSegDiff, MedSegDiff-V2 and U-ViT that the plan switches on."""
    grid, layers = diffusion["filter_grid_size"], diffusion["transformer_layers"]
    parts = {
        f"FF-Parser ({grid} frequencies per axis, interpolated to every feature map) and attentive fusion at every stage":
            diffusion["dynamic_encoding"],
        "anchor attention to the smoothed features at the finest stage": diffusion["anchor_attention"],
        f"spectrum-space transformer of {diffusion['spectrum_transformer_layers']} layers at the lowest resolution":
            diffusion["spectrum_transformer_layers"],
        f"transformer of {layers} layers at the lowest resolution": layers,
        f"self-attention of {diffusion['bottleneck_attention_heads']} heads at the lowest resolution":
            diffusion["bottleneck_attention_heads"] and not layers,
    }
    return "; ".join(name for name, is_on in parts.items() if is_on) or "none; the image is one more input"


def loss_words(diffusion: dict) -> str:
    """The denoiser's loss."""
    if diffusion["parameterisation"] != "x_start":
        weighting = {"none": "", "min_snr": ", min-SNR weighted", "sigmoid": ", sigmoid weighted"}[diffusion["time_weighting"]]
        scales = f" at all scales down to {diffusion['multiscale_size']} voxels" if diffusion["multiscale_size"] else ""
        return f"mean squared error of {diffusion['parameterisation']}{scales}{weighting}"
    return f"cross-entropy {diffusion['cross_entropy_weight']:g}, Dice {diffusion['dice_weight']:g}"


def write_plan_document(file: Path, plans: dict, fingerprint: dict, preset: dict, peaks_gb: dict[str, float],
                        target_gb: float) -> None:
    """Writes the explanation of all configurations; ``peaks_gb`` is the predicted memory of training each."""
    lines = [f"# Plan of {plans['dataset_name']} ({plans['plans_name']})", "", "## Structures (medians over cases)", ""]
    lines += structure_table(fingerprint[STRUCTURES_KEY])
    for name, configuration in plans["configurations"].items():
        lines += ["", f"## {name}", ""]
        if "architecture" not in configuration:
            lines.append(f"Everything as in {configuration['inherits_from']}; its input gains the prediction of "
                         f"{configuration.get('previous_stage', 'the previous stage')} as one channel per label.")
            continue
        lines += network_lines(configuration)
        if name in peaks_gb:
            fits = "within" if peaks_gb[name] <= target_gb else "which no patch and batch of nnU-Net's brings within"
            lines.append(f"- **Training memory** {peaks_gb[name]:.2f} GB predicted for network, denoiser and batch together, {fits} "
                         f"the target of {target_gb:g} GB; scratch memory of the convolutions comes on top.")
        if PLANS_KEY in configuration:
            lines += diffusion_lines(configuration[PLANS_KEY], preset.get("reference_vox"),
                                     len(configuration["patch_size"]))
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
