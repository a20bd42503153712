"""`python -m cxr_isnet` is `cxr-isnet`; torchrun starts it so."""

from cxr_isnet.cli import main

main()
