"""The public data sets, one file each, and `folder` and `table` for all others.

To add a set, add a file that defines `SOURCE` and its line in `SOURCES`.
"""

from cxr_isnet.config import choose
from cxr_isnet.manifests.source_parsing.source import Source
from cxr_isnet.manifests.sources import (
    actualmed,
    bimcv_covid19,
    brixia,
    chexpert,
    covid19_radiography,
    folder,
    hannover,
    ieee8023,
    jsrt,
    mimic_cxr_jpg,
    montgomery,
    nih_chestxray14,
    padchest,
    rsna_pneumonia,
    shenzhen,
    table,
    tb_portals,
    tbx11k,
    vindr_cxr,
)

SOURCES: tuple[Source, ...] = (
    actualmed.SOURCE,
    bimcv_covid19.SOURCE,
    brixia.SOURCE,
    chexpert.SOURCE,
    covid19_radiography.SOURCE,
    folder.SOURCE,
    hannover.SOURCE,
    ieee8023.SOURCE,
    jsrt.SOURCE,
    mimic_cxr_jpg.SOURCE,
    montgomery.SOURCE,
    nih_chestxray14.SOURCE,
    padchest.SOURCE,
    rsna_pneumonia.SOURCE,
    shenzhen.SOURCE,
    table.SOURCE,
    tb_portals.SOURCE,
    tbx11k.SOURCE,
    vindr_cxr.SOURCE,
)
"""All sources, in the order of listings."""


def find_source(name: str) -> Source:
    """The source of a name; raises `InputError` that lists the choices."""
    return choose("source", name, SOURCES)
