"""The commands of `cxr-isnet`, one file each: a dataclass of settings and the function that takes it."""
