"""The diffusion section in nnU-Net's plans: nnU-Net keeps the keys of a configuration that it does not know."""

from __future__ import annotations

from medsegdiff_auto.diffusion.configuration import PLANS_KEY, DiffusionConfiguration
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.nnunet.managers import ConfigurationManager


def diffusion_configuration(configuration_manager: ConfigurationManager) -> DiffusionConfiguration:
    """The diffusion section of a configuration of the plans, whatever version wrote it.

    Raises:
        UserError: it cannot be read.
    """
    return read_section(configuration_manager.configuration.get(PLANS_KEY, {}))


def read_section(section: dict) -> DiffusionConfiguration:
    """A diffusion section of the plans, whatever version wrote it.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return DiffusionConfiguration.from_plan(section)
    except (ValueError, KeyError, TypeError, AttributeError) as failure:
        raise UserError("The diffusion section of the plans cannot be read.", found=str(failure),
                        expected="what medsegdiff_plan_and_preprocess of this version or an earlier one wrote",
                        fix="correct the plans, or plan and train anew") from failure


def differing_keys(first: dict, second: dict) -> list[str]:
    """Keys of a configuration of the plans whose values another one does not have; sections of any version are compared
    as read.
    """
    def comparable(section: dict) -> dict:
        return section | {PLANS_KEY: read_section(section[PLANS_KEY])} if PLANS_KEY in section else section

    first, second = comparable(first), comparable(second)
    return [key for key, value in first.items() if second.get(key) != value]
