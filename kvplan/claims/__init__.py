"""Published claims: what each is checked with, and the verdict."""
