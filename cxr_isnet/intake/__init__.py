"""A hospital's folder of DICOM files to a de-identified manifest.

Reading order: `discovery` (the files of a folder), `importer` (one file to one image), `process_pool` (many at once),
`import_log` (the outcome of each, on disk), `pseudonyms`, `label_join` (labels by patient, accession or file),
`tables` (what is written).
"""
