"""Studies: their files, and the folders that their results go to."""
