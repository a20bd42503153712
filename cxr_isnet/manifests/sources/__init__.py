"""Public data sets as their publishers ship them, a file each. A file that registers a source is found by itself."""
