"""One file per check; each registers it with `cxr_isnet.checks.CHECKS`."""
