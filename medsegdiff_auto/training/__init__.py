"""The trainer that lives inside nnU-Net."""
