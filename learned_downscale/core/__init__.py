"""Tensors and arrays only: the networks, the filters, and how images are read in parts."""
