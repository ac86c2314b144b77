"""Chaos: the real processes, hurt in every way a seed can think of, and an independent check of what they promised."""
