"""Examines an installation: packages, folders, databases, exchanges; says what to do about each finding."""

from zvt_crypto.doctor.examination import Scope, examine
from zvt_crypto.doctor.findings import FAIL, OK, WARN, Finding

__all__ = ["FAIL", "OK", "WARN", "Finding", "Scope", "examine"]
