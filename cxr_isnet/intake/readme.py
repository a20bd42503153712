"""The README of an output: what lies in it, and whether it may be passed on."""

from pathlib import Path

from cxr_isnet.files import DISCLAIMER, atomic_write
from cxr_isnet.intake.importer import ImageFormat

README = "README.md"

_MAY_BE_PASSED_ON = {
    ImageFormat.PNG: """\
**What may be passed on:** the tables and `images/`, once a person has looked at the images: text that is burned into
the pixels is not removed. Names, dates and numbers of patients are not in them. The data are pseudonymous, not
anonymous: whoever holds the key can tell whose they are.""",
    ImageFormat.REFERENCE: """\
**NOT TO BE PASSED ON.** `images/` holds links to the DICOM files as they are, with the identity of the patients in
their headers and, often, in their names. Whatever follows a link when it copies this folder copies the patients'
identity. The column `sha256` is empty: the digest of an identified file would tell whoever has that file whose row
this is. The name of a link is a digest with the key. Use `--format png` for an output that can leave the hospital.""",
}


def write_readme(output: Path, images: ImageFormat) -> None:
    """Writes the README of an output.

    Args:
        output: folder of an intake; exists.
        images: what its manifest names.
    """
    private = f"{output.resolve().name}.private"
    text = f"""# Output of `cxr-isnet intake`

{_MAY_BE_PASSED_ON[images]}

**Never to be passed on:** the folder `{private}` beside this one, with the key of the pseudonyms and the names of the
files.

| file | content |
| --- | --- |
| `manifest.csv` | one row for each accepted image, under pseudonyms |
| `provenance.csv` | how each image was read |
| `quarantine.csv` | one row for each rejected file, with the reason and the remedy |
| `images/` | the images |
| `import_log.sqlite` | what has been read, under pseudonyms, so that the next run reads the rest |

{DISCLAIMER}
"""
    with atomic_write(output / README) as partial:
        partial.write_text(text, encoding="utf-8")
