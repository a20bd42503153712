"""What the sources share: what a source is, labels, layouts, demographics, masks in several files."""
