"""Curves, bars and scatter plots of what was measured; colours that colour-blind people can tell apart."""
