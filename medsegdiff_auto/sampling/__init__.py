"""Drawing samples of a volume: its tiles, noise and image features, and the memory that they take."""
