"""Handing a model over: the file that leaves the machine, its card and its self-test, and the way back."""
