"""Many runs: grids of methods, budgets and networks, the search for a teacher, and who does the jobs."""
