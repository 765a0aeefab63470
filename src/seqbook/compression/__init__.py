"""Lossless compression: models that predict bits, and a coder that makes a file of them."""
