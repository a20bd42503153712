"""The examinations, one file each; `cxr_isnet.audit.registry` lists them."""
