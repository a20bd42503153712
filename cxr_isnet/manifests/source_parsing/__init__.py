"""What the sources share: what a source is, labels, layouts, demographics, masks in several files."""

from cxr_isnet.manifests.source_parsing.source import Source, TableOptions

__all__ = [
    "Source",
    "TableOptions",
]
