"""Lossless compression: models that predict bits, and a coder that turns predictions into a file."""
