"""How one configuration of the plans inherits another: ``inherits_from`` names it, and what is said nearer counts.

``3d_cascade_fullres`` inherits ``3d_fullres``; plans that are edited by hand inherit for another batch or spacing.
"""

from __future__ import annotations

INHERITS = "inherits_from"
DATA, NETWORK = "data_identifier", "architecture"


def resolved(plans: dict, configuration: str) -> dict:
    """All that holds for a configuration: what it says itself, and else what it inherits."""
    section = plans["configurations"][configuration]
    return resolved(plans, section[INHERITS]) | section if INHERITS in section else section


def holder(plans: dict, configuration: str, key: str) -> str:
    """The configuration that says the value of a key for this one: itself, or the nearest that it inherits.

    A configuration that holds :data:`DATA` has preprocessed cases of its own, one that holds :data:`NETWORK` a network.

    Raises:
        KeyError: none says it.
    """
    section = plans["configurations"][configuration]
    return configuration if key in section else holder(plans, section[INHERITS], key)


def holders(plans: dict, key: str) -> list[str]:
    """The configurations that say a key themselves, in the order of the plans."""
    return [name for name, section in plans["configurations"].items() if key in section]


def network_arguments(section: dict) -> dict:
    """What nnU-Net builds a configuration's network with, such as ``strides``; empty where it says none."""
    return section.get(NETWORK, {}).get("arch_kwargs", {})
