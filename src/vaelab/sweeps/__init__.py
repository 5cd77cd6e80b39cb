"""Hydra's sweepers and launchers of this package: they choose, start and resume the jobs of a multirun."""
