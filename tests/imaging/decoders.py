"""What is tested only where the optional decoders are installed; `make test-bare` tests the rest without them."""

from importlib.util import find_spec

import pytest

MISSING = [name for name in ("gdcm", "imagecodecs", "openjpeg", "pylibjpeg") if find_spec(name) is None]

needs_decoders = pytest.mark.skipif(
    bool(MISSING), reason=f"no optional decoders ({', '.join(MISSING)}): pip install 'cxr-isnet[dicom]'"
)
