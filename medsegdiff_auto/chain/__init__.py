"""From a folder of images and masks to a calibrated model, its report and predictions: one command after the other."""
