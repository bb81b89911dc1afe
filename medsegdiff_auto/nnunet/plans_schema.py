"""The schema of nnU-Net's plans, beside the diffusion section: types, ranges, and who inherits from whom.

Every key may be missing: plans inherit, and older ones lack some.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StrictBool, StrictInt, StrictStr

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.nnunet.inheritance import INHERITS
from medsegdiff_auto.schemas import STRICT, validated


def _is_order(axes: list[int]) -> list[int]:
    if sorted(axes) != list(range(len(axes))):
        raise ValueError("Input should hold every axis once, from 0")
    return axes


FileName = Annotated[StrictStr, Field(pattern=r"^[^/\\]*[^/\\.][^/\\]*$")]
Order = Annotated[list[StrictInt], Field(min_length=3, max_length=3), AfterValidator(_is_order)]
Count = Annotated[StrictInt, Field(ge=1)]
Length = Annotated[float, Field(gt=0, strict=True)]
Axes = Field(min_length=2, max_length=3)


@dataclass(frozen=True)
class Configuration:
    """One configuration: grid, patch and batch."""

    __pydantic_config__ = STRICT | {"extra": "allow"}

    data_identifier: FileName | None = None
    inherits_from: StrictStr | None = None
    previous_stage: StrictStr | None = None
    batch_size: Count | None = None
    patch_size: Annotated[list[Count], Axes] | None = None
    spacing: Annotated[list[Length], Axes] | None = None
    normalization_schemes: list[StrictStr] | None = None
    use_mask_for_norm: list[StrictBool] | None = None
    batch_dice: StrictBool | None = None
    architecture: dict[str, Any] | None = None
    diffusion: dict[str, Any] | None = None


@dataclass(frozen=True)
class Plans:
    """The plans of a dataset."""

    dataset_name: FileName | None = None
    plans_name: FileName | None = None
    transpose_forward: Order | None = None
    transpose_backward: Order | None = None
    foreground_intensity_properties_per_channel: dict[str, dict[str, float]] = field(default_factory=dict)
    configurations: Annotated[dict[FileName, Configuration], Field(min_length=1)] = field(default_factory=dict)


def require_plans(plans: dict, shown: str) -> None:
    """Checks types and ranges of plans, and that every configuration inherits from one that is there.

    Args:
        shown: how messages call the plans.

    Raises:
        UserError: a value is none that nnU-Net can plan, or a configuration inherits from itself or from none.
    """
    try:
        checked = validated(Plans, plans)
        for name, section in checked.configurations.items():
            _require_ancestors(name, checked.configurations)
            if section.patch_size and section.spacing and len(section.patch_size) != len(section.spacing):
                raise ValueError(f"configurations.{name} has {len(section.patch_size)} axes of patch_size and "
                                 f"{len(section.spacing)} of spacing")
    except ValueError as failure:
        raise UserError(f"{shown} has a value that no plans have.", found=str(failure),
                        expected="plans as medsegdiff_plan_and_preprocess or nnU-Net writes them",
                        fix="correct the value, or plan anew") from failure


def _require_ancestors(name: str, configurations: dict[str, Configuration]) -> None:
    seen = [name]
    while (parent := configurations[seen[-1]].inherits_from) is not None:
        if parent not in configurations or parent in seen:
            raise ValueError(f"configurations.{seen[-1]}.{INHERITS} is {parent!r}, which is "
                             + ("no configuration" if parent not in configurations else "a circle"))
        seen.append(parent)
