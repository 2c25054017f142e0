"""Tools that measure: one file each."""
