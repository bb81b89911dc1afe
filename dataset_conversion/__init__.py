"""Converters of source datasets to the nnU-Net raw format, one file per source; what they share is in ``core``."""
