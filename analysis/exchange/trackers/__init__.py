"""Runs that other tools logged: Optuna, Ray Tune, Weights & Biases."""
