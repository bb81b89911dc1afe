"""The mathematics of the diffusion: schedules, forward process, samplers, losses (torch only)."""
