"""A mixed fleet for several workloads: the columns of a program, its solution, the plan."""
