"""GPUs, by all the names that people, tools and clouds give them."""
