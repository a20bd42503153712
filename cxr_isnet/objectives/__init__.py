"""What a training step minimises, one file per family of methods."""
