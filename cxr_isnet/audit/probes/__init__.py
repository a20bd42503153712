"""The audit's probes, one file each. A new probe is a file here and a line below."""

from cxr_isnet.audit.probe import Probe
from cxr_isnet.audit.probes import (
    background_swap,
    hidden_lungs,
    imposed_changes,
    lung_dependence,
    pixel_erasure,
    relevance_share,
    site_probe,
    weight_randomisation,
    whole_images,
)

PROBES: tuple[Probe, ...] = (
    whole_images.PROBE,
    hidden_lungs.PROBE,
    lung_dependence.PROBE,
    background_swap.PROBE,
    imposed_changes.PROBE,
    site_probe.PROBE,
    weight_randomisation.PROBE,
    relevance_share.PROBE,
    pixel_erasure.PROBE,
)
"""All probes, in the order of the report."""

ON_HELD_OUT: tuple[Probe, ...] = (hidden_lungs.PROBE, lung_dependence.PROBE)
"""Probes that are put to held-out images of the training hospitals too, where the shortcuts of the training are."""
