"""Bundled weights, one folder each; installed as `learned_downscale.weights`."""
