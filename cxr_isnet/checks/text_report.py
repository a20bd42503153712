"""Text report: what was checked, then every check with counts and its first findings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from cxr_isnet.checks.check import Check
from cxr_isnet.checks.findings import Contingency, Finding, Severity
from cxr_isnet.checks.scan import ManifestScan
from cxr_isnet.evaluation import printable

EXAMPLES = 5
"""Findings of a check and a severity that are shown."""

CONTINGENCY_ROWS = 8
"""Values of a property that are shown; the rest is summed up."""


def text_report(scan: ManifestScan, groups: Sequence[tuple[Check, Sequence[Finding]]]) -> str:
    """Text of the whole report.

    Args:
        scan: that was checked.
        groups: checks with their findings.
    """
    lines = [contents(scan), verdict([finding for _, found in groups for finding in found])]
    for check, found in groups:
        lines += ["", f"{check.name}: {tally(found) or 'nothing found'} ({check.about})"]
        lines += _examples(found)
    return "\n".join(printable(line) for line in lines)


def contents(scan: ManifestScan) -> str:
    """Number of tables, rows, patients and files, in a line."""
    patients = len(scan.frame[["site", "patient_id"]].drop_duplicates()) if scan.tables else 0
    masks = sum(mask.thumbnail is not None for mask in scan.masks.values())
    readable = sum(image.thumbnail is not None for image in scan.images.values())
    return (
        f"tables: {len(scan.tables)}, rows: {len(scan.frame)}, patients: {patients}, readable images: {readable}, "
        f"readable masks: {masks}"
    )


def verdict(findings: Sequence[Finding]) -> str:
    """Verdict on all findings, in a line."""
    severities = {finding.severity for finding in findings}
    if Severity.UNUSABLE in severities:
        return "Unusable: a table cannot be read or breaks the schema."
    if severities & {Severity.ERROR, Severity.WARNING}:
        return f"Found: {tally(findings)}."
    return "Clean: nothing has to be done."


def tally(findings: Iterable[Finding]) -> str:
    """Number of findings by severity, worst first, as "2 errors, 1 warning"."""
    count = Counter(finding.severity for finding in findings)
    return ", ".join(_counted(count[severity], severity) for severity in Severity if count[severity])


def _counted(count: int, severity: Severity) -> str:
    plural = "s" if count > 1 and severity in (Severity.ERROR, Severity.WARNING) else ""
    return f"{count} {severity.value}{plural}"


def _examples(findings: Sequence[Finding]) -> Iterator[str]:
    for severity in Severity:
        of_kind = [finding for finding in findings if finding.severity is severity]
        shown = of_kind if severity is Severity.UNUSABLE else of_kind[:EXAMPLES]
        for finding in shown:
            yield f"  {severity.value}: {finding.message}"
            if finding.contingency is not None and severity is not Severity.INFO:
                yield from _contingency_lines(finding.contingency)
            for control in dict.fromkeys(score.control for score in finding.controls):
                reached = "; ".join(str(score) for score in finding.controls if score.control == control)
                yield f"    {control}: {reached}"
        if len(of_kind) > len(shown):
            yield f"  {severity.value}: and {len(of_kind) - len(shown)} more"


def _contingency_lines(table: Contingency) -> Iterator[str]:
    """Patients by value and label, columns aligned, rare values summed up."""
    rows = shortened(table)
    first = max(len(table.property), *(len(value) for value, _ in rows))
    widths = [max(7, len(label)) for label in table.labels]
    names = " ".join(f"{label:>{width}}" for label, width in zip(table.labels, widths, strict=True))
    yield f"    {table.property:<{first}} {names}"
    for value, counts in rows:
        cells = " ".join(f"{count:>{width}}" for count, width in zip(counts, widths, strict=True))
        yield f"    {value:<{first}} {cells}"


def shortened(table: Contingency) -> list[tuple[str, tuple[int, ...]]]:
    """Rows of a contingency table, the rarest values summed up in a last one."""
    rows = list(zip(table.values, table.counts, strict=True))
    if len(rows) <= CONTINGENCY_ROWS + 1:
        return rows
    rest = rows[CONTINGENCY_ROWS:]
    summed = tuple(sum(counts) for counts in zip(*(counts for _, counts in rest), strict=True))
    return [*rows[:CONTINGENCY_ROWS], (f"{len(rest)} others", summed)]
