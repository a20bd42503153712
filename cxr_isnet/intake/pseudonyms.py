"""What stands in the tables instead of a person: keyed hashes, shifted dates, and the key they are made with."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import secrets
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

from cxr_isnet.errors import InputError
from cxr_isnet.imaging.header import Header

logger = logging.getLogger(__name__)

KEY_VARIABLE = "CXR_ISNET_INTAKE_KEY"
SHORTEST_KEY = 16
_DIGITS = 16  # 64 bits: the chance that two among a million identifiers meet is below one in ten million
_YEAR = 365
_OLDEST = 90  # ages above 89 count as identifying: 45 CFR 164.514(b)(2)(i)(C)
_AGE = re.compile(r"(\d{1,3})([YMWD]?)")
_PER_YEAR = {"": 1.0, "Y": 1.0, "M": 12.0, "W": 52.18, "D": 365.25}


@dataclass(frozen=True)
class Pseudonyms:
    """Keyed hashes (HMAC-SHA256): whoever lacks the key can neither invert them nor try out identifiers.

    Attributes:
        key: secret; the same key gives the same pseudonyms, in every intake.
    """

    key: bytes = field(repr=False)

    def of(self, kind: str, value: str) -> str:
        """The pseudonym of a value, 16 hexadecimal digits.

        Args:
            kind: what the value is: equal values of different kinds have different pseudonyms.
            value: what is to be hidden.
        """
        message = f"{kind}\0{value}".encode(errors="backslashreplace")  # file names need not be Unicode
        return hmac.new(self.key, message, hashlib.sha256).hexdigest()[:_DIGITS]

    def shifted(self, day: str, patient: str) -> str:
        """A date moved back by 1 to 365 days, the same number for all dates of a patient.

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


def find_key(key_file: str | None, private: Path) -> Pseudonyms:
    """The key: of a named file, else of the environment, else of the intake's private folder, made if missing.

    A key that was made stays beside the output and not in it, so that the output can be passed on.

    Args:
        key_file: file that holds the key; must exist.
        private: folder for a key that is made; exists, for its owner only.

    Raises:
        InputError: the file cannot be read, or the key is too short to be a secret.
    """
    if key_file is not None:
        return Pseudonyms(_long_enough(_read_key(Path(key_file)), key_file))
    if KEY_VARIABLE in os.environ:
        return Pseudonyms(_long_enough(os.environ[KEY_VARIABLE].strip().encode(), f"variable {KEY_VARIABLE}"))
    made = private / "key"
    if not made.exists():
        partial = made.with_name(f".key.{os.getpid()}.partial")
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as stream:
            stream.write(secrets.token_hex(32) + "\n")
        os.replace(partial, made)
        logger.warning(
            "made a new key, %s: keep it to add files of the same patients later; it is needed to tell who is who", made
        )
    return Pseudonyms(_long_enough(_read_key(made), str(made)))


def _read_key(path: Path) -> bytes:
    try:
        return path.read_bytes().strip()
    except OSError as error:
        raise InputError(f"{path}: the key cannot be read: {error}. Correct key_file") from error


def _long_enough(key: bytes, place: str) -> bytes:
    if len(key) < SHORTEST_KEY:
        raise InputError(f"{place}: a key of {len(key)} bytes. Give at least {SHORTEST_KEY}, from a random source")
    return key


def age_in_years(header: Header) -> float | None:
    """PatientAge (0010,1010) in years, whole from the first year on; 90 stands for all above 89."""
    match = _AGE.fullmatch(header.text("PatientAge").upper())
    if match is None:
        return None
    years = int(match[1]) / _PER_YEAR[match[2]]
    return float(min(int(years), _OLDEST)) if years >= 1 else round(years, 2)


def sex(header: Header) -> str:
    """PatientSex (0010,0040): F, M, O, or "" for anything else."""
    text = header.text("PatientSex").upper()
    return text if text in ("F", "M", "O") else ""
