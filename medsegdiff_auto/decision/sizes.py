"""The unit in which the size of a structure is given."""

MM3_PER_ML = 1000.0
SIZE_COLUMNS = {"volume_ml": ("volume", "ml", 2), "area_mm2": ("area", "mm²", 1), "area_px": ("area", "px", 0)}
"""Name, unit and shown decimals by column."""


def size_column(num_axes: int, has_spacing: bool) -> str:
    """Name of a size in tables: ``volume_ml`` in 3-D, ``area_mm2`` in 2-D, ``area_px`` for formats without spacing."""
    if not has_spacing:
        return "area_px"
    return "volume_ml" if num_axes == 3 else "area_mm2"


def size_of_voxel(column: str, product_of_spacings_mm: float) -> float:
    """Size of one voxel in the unit of the column."""
    return {"area_px": 1.0, "area_mm2": product_of_spacings_mm,
            "volume_ml": product_of_spacings_mm / MM3_PER_ML}[column]


def interval_check(column: str) -> str:
    """Name of the column that says whether the interval of a size holds the reference's."""
    return f"reference_{SIZE_COLUMNS[column][0]}_in_interval"
