"""How much of the search space does nearly as well as the best, what matters in it, and how that moves."""
