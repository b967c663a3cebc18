"""Comparisons with PyTorch: the reference's value at every stage of the model, and the tests that hold minivl to it."""
