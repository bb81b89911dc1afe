"""The mean probability, decided as nnU-Net does."""

from __future__ import annotations

from medsegdiff_auto.decision.decoder import Decoder, by_mean

DECODER = Decoder("mean probability", "Isensee et al. 2021",
                  lambda probabilities, samples, labels: by_mean(probabilities, labels), rank=0, uses_samples=False)
