"""Every way to serve a workload on every GPU: what is tried, what fits, how fast it is, and how sure."""
