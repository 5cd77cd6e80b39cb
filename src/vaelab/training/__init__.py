"""Training by Lightning: the module, its callbacks, checkpoints and how a run goes on."""
