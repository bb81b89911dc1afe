"""The name that many papers give to BTCV: the same converter as ``btcv``."""

from __future__ import annotations

import dataclasses

from medsegdiff_auto.dataset_conversion.btcv import BTCV


class Synapse(BTCV):
    """The folder RawData, with Training/ and Testing/; the same as btcv."""

    about = dataclasses.replace(BTCV.about, title="Synapse multi-organ, another name of btcv")


CONVERTER = Synapse()
