"""Models from symbols to predictions, and how they are decoded and scored."""
