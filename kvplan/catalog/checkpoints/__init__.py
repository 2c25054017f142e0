"""From names, folders and files of checkpoints to models."""
