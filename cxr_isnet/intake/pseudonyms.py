"""Pseudonymisation: keyed hashes, shifted dates, the key, and the tags that de-identified tables may hold."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import secrets
import stat
import unicodedata
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from threading import get_ident

from cxr_isnet.errors import InputError
from cxr_isnet.imaging import Header

logger = logging.getLogger(__name__)

KEY_VARIABLE = "CXR_ISNET_INTAKE_KEY"
MIN_KEY_BYTES = 16
_DIGITS = 16  # 64 bits: the chance of a collision among a million identifiers is below one in ten million
_YEAR = 365
_MAX_AGE = 90  # ages above 89 count as identifying: 45 CFR 164.514(b)(2)(i)(C)
_LONGEST_LIFE = 110
_AGE = re.compile(r"(\d{1,3})([YMWD]?)")
_PLACEHOLDER = re.compile(
    r"ANON|ANONYM\w*|ANONIM\w*|DEIDENTIFIED|REMOVED|UNKNOWN|UNBEKANNT|INCONNU|DESCONOCIDO|DESCONHECIDO|SCONOSCIUTO"
    r"|NONE|NULL|NA|NOID|NONAME|TEST|PATIENT|X+|0+"
)
_PER_YEAR = {"": 1.0, "Y": 1.0, "M": 12.0, "W": 52.18, "D": 365.25}


@dataclass(frozen=True)
class Pseudonyms:
    """Keyed hashes (HMAC-SHA256): without the key they can neither be inverted nor found by trying identifiers.

    Attributes:
        key: secret; the same key gives the same pseudonyms in every intake.
    """

    key: bytes = field(repr=False)

    def of(self, kind: str, value: str) -> str:
        """The pseudonym of a value, 16 hexadecimal digits; the two forms that Unicode has of 'ä' have one.

        Args:
            kind: what the value is: equal values of different kinds have different pseudonyms.
            value: the identifier.
        """
        composed = unicodedata.normalize("NFC", value)
        message = f"{kind}\0{composed}".encode(errors="backslashreplace")  # file names need not be Unicode
        return hmac.new(self.key, message, hashlib.sha256).hexdigest()[:_DIGITS]

    def of_file(self, root: Path, name: str) -> str:
        """The pseudonym of a file: equal names in two roots have two.

        Args:
            root: of the intake, without links.
            name: of the file, as in `FoundFile`; `\\` counts as `/`, as Windows and some archives write paths.
        """
        return self.of("file", "{}\0{}".format(root, name.replace("\\", "/")))

    def shift_date(self, day: str, patient: str) -> str:
        """A date shifted back by 1 to 365 days, the same number for all dates of a patient.

        Args:
            day: YYYYMMDD.
            patient: PatientID.

        Returns:
            YYYY-MM-DD, or "" where `day` is not a date.
        """
        days = int(self.of("shift", patient), 16) % _YEAR + 1
        try:
            return (date.fromisoformat(day) - timedelta(days)).isoformat()
        except (ValueError, OverflowError):
            return ""


def private_folder(output: Path) -> Path:
    """The folder beside an output, for its owner only, of the key and of the names of files; created if missing.

    Args:
        output: folder of an intake; exists.

    Raises:
        InputError: what lies there is no folder, belongs to another user, or is open to others: they may have read or
            planted a key.
    """
    private = output.resolve().with_name(f"{output.resolve().name}.private")
    private.mkdir(mode=0o700, exist_ok=True)
    status = private.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise InputError(f"{private}: a link, not a folder of its own. Remove it, or name another output")
    if os.name == "posix":
        mode = stat.S_IMODE(status.st_mode)
        if status.st_uid != os.geteuid():
            raise InputError(f"{private}: belongs to another user. Run as that user, or name another output")
        if mode & 0o077:
            raise InputError(
                f"{private}: is open to others (mode {mode:o}), who may have read or replaced the key. Make sure that "
                f"nobody has, and close it: chmod 700 '{private}'"
            )
    return private


def load_pseudonyms(key_file: str | None, private: Path) -> Pseudonyms:
    """Pseudonyms with the key of a file, else of the environment, else of the private folder, generated if missing.

    A generated key is kept beside the output and not in it, so that the output can be shared.

    Args:
        key_file: file that holds the key; must exist.
        private: folder for a generated key; exists, readable by its owner only.

    Raises:
        InputError: the file cannot be read, or the key is too short to be a secret.
    """
    if key_file is not None:
        return Pseudonyms(_check_length(_read_key(Path(key_file)), key_file))
    if KEY_VARIABLE in os.environ:
        return Pseudonyms(_check_length(os.environ[KEY_VARIABLE].strip().encode(), f"variable {KEY_VARIABLE}"))
    generated = private / "key"
    if not generated.exists():
        _generate_key(generated)
    return Pseudonyms(_check_length(_read_key(generated), str(generated)))


def _generate_key(path: Path) -> None:
    """Creates the key unless another process does so first, whose key is then the one: it is never replaced."""
    partial = path.with_name(f".key.{os.getpid()}.{get_ident()}.partial")
    try:
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as stream:
            stream.write(secrets.token_hex(32) + "\n")
        os.link(partial, path)
    except FileExistsError:
        return
    finally:
        partial.unlink(missing_ok=True)
    logger.warning(
        "generated a key, %s: keep it to add files of the same patients later and to re-identify patients", path
    )


def _read_key(path: Path) -> bytes:
    try:
        return path.read_bytes().strip()
    except OSError as error:
        raise InputError(f"{path}: the key cannot be read: {error}. Correct key_file") from error


def _check_length(key: bytes, source: str) -> bytes:
    if len(key) < MIN_KEY_BYTES:
        raise InputError(f"{source}: a key of {len(key)} bytes. Give at least {MIN_KEY_BYTES}, from a random source")
    return key


def patient_age(header: Header) -> float | None:
    """The age in years, whole from the first year on; 90 stands for all above 89.

    By PatientAge (0010,1010), else from PatientBirthDate (0010,0030), which every image has that a hospital has not
    de-identified, to StudyDate (0008,0020).
    """
    match = _AGE.fullmatch(header.text("PatientAge").upper())
    years = int(match[1]) / _PER_YEAR[match[2]] if match else _years_between(header)
    if years is None:
        return None
    return float(min(int(years), _MAX_AGE)) if years >= 1 else round(years, 2)


def _years_between(header: Header) -> float | None:
    """Years from birth to study; None without dates, or of more than any person's, as 1900 for an unknown year."""
    try:
        birth, study = (
            date.fromisoformat(re.sub(r"\D", "", header.text(keyword))) for keyword in ("PatientBirthDate", "StudyDate")
        )
    except ValueError:
        return None
    whole = study.year - birth.year - ((study.month, study.day) < (birth.month, birth.day))
    if not 0 <= whole <= _LONGEST_LIFE:
        return None
    return float(whole) if whole else (study - birth).days / _PER_YEAR["D"]


def is_placeholder(patient: str) -> bool:
    """Whether a PatientID stands for nobody, as "ANONYMOUS": the images of all patients would count as those of one."""
    letters = "".join(filter(str.isalnum, patient.upper()))
    return not letters or _PLACEHOLDER.fullmatch(letters) is not None
