"""From images to fused masks, samples and uncertainty."""
