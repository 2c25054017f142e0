"""How a study is asked: which questions there are, by one process, by several, by a cluster, and what came of it."""
