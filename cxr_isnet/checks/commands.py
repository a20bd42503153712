"""`cxr-isnet manifest check`."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cxr_isnet.checks.findings import Finding, exit_status
from cxr_isnet.checks.html_report import write_html_report
from cxr_isnet.checks.json_report import write_json_report
from cxr_isnet.checks.registry import CHECKS, Check
from cxr_isnet.checks.survey import SCHEMA_CHECK, Survey, take_survey
from cxr_isnet.checks.text_report import text_report
from cxr_isnet.errors import InputError

logger = logging.getLogger(__name__)

_SCHEMA = Check(SCHEMA_CHECK, "tables can be read, and have the columns and cells of a manifest", lambda _: ())


@dataclass(frozen=True)
class CheckConfig:
    """Checking manifests, and the files that they name, before any training.

    Attributes:
        tables: Manifests, tables or recipes; checked one by one and against each other.
        html: Page to write, with thumbnails of what is flagged; null for none.
        json: File to write with all findings; null for none.
        workers: Files read at a time.
        crop_limit: Number of images above which crops are not searched for; the time grows with its square.
    """

    tables: list[str]
    html: str | None = None
    json: str | None = None
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    crop_limit: int = 5000

    def __post_init__(self) -> None:
        if self.workers < 1 or self.crop_limit < 0:
            raise InputError(f"workers is {self.workers} and crop_limit {self.crop_limit}: at least 1 and 0 are needed")
        for name, file in (("html", self.html), ("json", self.json)):
            if file is not None and (Path(file).is_dir() or not Path(file).absolute().parent.is_dir()):
                raise InputError(f"{name} is '{file}': name a file in a folder that exists")


def check(config: CheckConfig) -> tuple[str, int]:
    """Looks at tables and files and writes the reports; returns the text and the exit status.

    The status is 0 when all is clean, 1 when something was found, 2 when a table is unusable. Notes of severity info
    leave it at 0.
    """
    survey = take_survey(config.tables, workers=config.workers, crop_limit=config.crop_limit)
    groups = run_checks(survey)
    findings = [finding for _, found in groups for finding in found]
    if config.json is not None:
        write_json_report(Path(config.json), survey, findings)
    if config.html is not None:
        write_html_report(Path(config.html), survey, groups)
    return text_report(survey, groups), exit_status(findings)


def run_checks(survey: Survey) -> Sequence[tuple[Check, tuple[Finding, ...]]]:
    """Every check with what it found; the schema first."""
    groups: list[tuple[Check, tuple[Finding, ...]]] = [(_SCHEMA, survey.refused)]
    for one in CHECKS.all().values() if survey.tables else ():
        logger.info("check %s: %s", one.name, one.about)
        groups.append((one, tuple(one.find(survey))))
    return groups
