"""How the jobs of a multirun are chosen, started and continued: Hydra's sweepers and launchers of this package."""
