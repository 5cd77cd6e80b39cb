"""Pictures for people: tiles of x, scenes of a model, charts of numbers, and their files."""
