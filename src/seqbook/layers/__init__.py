"""Layers: recurrent networks, attention, the Transformer."""
