"""One file per check; each calls `cxr_isnet.checks.registry.register`."""
