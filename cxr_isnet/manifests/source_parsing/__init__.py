"""What the sources share: what a source is, labels, layouts, demographics, masks in several files."""

from cxr_isnet.manifests.source_parsing.source import PublishedSet, Source, TableOptions

__all__ = [
    "PublishedSet",
    "Source",
    "TableOptions",
]
