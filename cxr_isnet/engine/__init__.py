"""Training that knows no X-ray: trainer, run directory, checkpoint, processes, optimiser and precision settings."""
