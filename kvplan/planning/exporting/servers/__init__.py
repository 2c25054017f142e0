"""Forms of a server: one file each."""
