"""What one looks at: tiles of images, scenes of a model, charts of numbers."""
