"""The colours of structures and folds, those of Okabe and Ito, which people with colour-blindness can tell apart."""

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")


def colour(index: int) -> str:
    """The colour of the structure or fold of this index, ``#rrggbb``."""
    return PALETTE[index % len(PALETTE)]


def structure_colour(index: int) -> str:
    """The contour colour of a structure: the palette from its brighter end, which stands out on grey images."""
    return colour(4 + index)


def as_bytes(hexadecimal: str) -> tuple[int, int, int]:
    """Red, green and blue, 0 to 255, of ``#rrggbb``."""
    red, green, blue = bytes.fromhex(hexadecimal.removeprefix("#"))
    return red, green, blue


def tinted(hexadecimal: str, share: float) -> str:
    """A colour mixed with this share of white, [0, 1]."""
    return "#" + "".join(f"{round(value + share * (255 - value)):02x}" for value in as_bytes(hexadecimal))
