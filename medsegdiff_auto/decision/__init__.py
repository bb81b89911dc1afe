"""From samples to a mask and what is known of it: decoders, uncertainty, sizes with intervals, what is fitted."""
