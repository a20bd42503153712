"""All examinations, in the order of the report. A new one is a file in `examinations/` and a line here."""

from cxr_isnet.audit.examination import Examination
from cxr_isnet.audit.examinations import (
    background_swap,
    hidden_lungs,
    pixel_erasure,
    planted_marks,
    relevance_share,
    site_probe,
    weight_randomisation,
)

EXAMINATIONS: tuple[Examination, ...] = (
    hidden_lungs.EXAMINATION,
    background_swap.EXAMINATION,
    planted_marks.EXAMINATION,
    site_probe.EXAMINATION,
    weight_randomisation.EXAMINATION,
    relevance_share.EXAMINATION,
    pixel_erasure.EXAMINATION,
)
