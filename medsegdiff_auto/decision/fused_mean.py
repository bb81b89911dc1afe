"""The mean of plain networks and samples, which grows one volume at a time."""

from __future__ import annotations

from medsegdiff_auto.sampling.volume_store import InMemory, Storage, VolumeStore

PLAIN, EXPECTED, FUSED, SAMPLE, LABELS = "plain", "expected", "fused", "sample", "labels"


class FusedMean:
    """w plain + (1 - w) samples, or their expected mask where it is known without drawing any, over all folds.

    Args:
        storage: where the sums are kept.
    """

    def __init__(self, conditioner_weight: float, storage: Storage = Storage()):
        self.weights = {PLAIN: conditioner_weight, EXPECTED: 1 - conditioner_weight, SAMPLE: 1 - conditioner_weight,
                        FUSED: 1.0}
        self.storage = storage
        self.sums: dict[str, VolumeStore] = {}
        self.counts = dict.fromkeys(self.weights, 0)

    def add(self, kind: str, probabilities: VolumeStore) -> None:
        """One more of :data:`PLAIN`, :data:`EXPECTED` or :data:`SAMPLE`, or :data:`FUSED`, which is the mean of the
        first two already and is given up to the sum, (K, *spatial).

        What has no weight is not kept, nor are samples whose expected mask is there.
        """
        if not self.weights[kind] or (kind == SAMPLE and self.sums.keys() & {EXPECTED, FUSED}):
            return
        self.counts[kind] += 1
        if kind in self.sums:
            for rows in probabilities.blocks():
                self.sums[kind].write(rows, self.sums[kind].read(rows) + probabilities.read(rows))
        elif kind == FUSED and probabilities.can_be_written:
            self.sums[kind] = probabilities
        else:
            self.sums[kind] = self.storage.empty(probabilities.shape)
            for rows in probabilities.blocks():
                self.sums[kind].write(rows, probabilities.read(rows))

    def so_far(self) -> InMemory:
        """(K, *spatial) float32 of what has been added, in memory; more can follow."""
        return InMemory(
            sum(total.read() * (self.weights[kind] / self.counts[kind]) for kind, total in self.sums.items()))

    def finish(self) -> VolumeStore:
        """(K, *spatial) float32; the sums are given up for it."""
        (kind, mean), *others = self.sums.items()
        for rows in mean.blocks() if others or self.weights[kind] != self.counts[kind] else ():
            mean.write(rows, sum(total.read(rows) * (self.weights[kind] / self.counts[kind])
                                 for kind, total in self.sums.items()))
        self.sums = {}
        return mean
