"""The course's exercises as students get them: notebooks, and the cases that they may see."""
