"""What cross-validation chooses and fits."""
