"""ThumbNet's training: T, E and S together. An extra (`[train]`); the library never imports it."""
