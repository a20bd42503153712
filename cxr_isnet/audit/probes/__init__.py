"""The audit's probes, one file each. A new probe is a file here and a line below."""

from cxr_isnet.audit.probe import Probe
from cxr_isnet.audit.probes import (
    background_swap,
    hidden_lungs,
    pixel_erasure,
    planted_marks,
    relevance_share,
    site_probe,
    weight_randomisation,
)

PROBES: tuple[Probe, ...] = (
    hidden_lungs.PROBE,
    background_swap.PROBE,
    planted_marks.PROBE,
    site_probe.PROBE,
    weight_randomisation.PROBE,
    relevance_share.PROBE,
    pixel_erasure.PROBE,
)
"""All probes, in the order of the report."""
