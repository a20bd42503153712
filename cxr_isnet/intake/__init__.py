"""A hospital's folder of DICOM files to a de-identified manifest.

Reading order: `discovery` (which files there are), `importer` (one file to one image), `process_pool` (many at once),
`import_log` (what became of each, kept on disk), `pseudonyms`, `label_join` (labels by patient, accession or file),
`tables` (what is written).
"""
