"""How Hydra runs the jobs of a multirun: what is missing of a grid, each in a process of its own."""
