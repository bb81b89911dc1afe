"""Conditioner, denoiser, FF-Parser, attentive fusion (torch and dynamic-network-architectures only)."""
