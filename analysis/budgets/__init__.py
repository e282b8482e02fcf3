"""The best result of each batch size under a budget of steps, examples or time (Shallue et al. 2018, section 4.8)."""
