"""A pytest plugin for CI: a skip is a failure, unless it is about what the machine allows.

pytest -p tests.support.no_skips
"""

from collections.abc import Generator

import pytest

_ALLOWED = ("needs mount", "mounting is not allowed")  # a small file system to fill up


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr)
        if not any(words in reason for words in _ALLOWED):
            report.outcome = "failed"
            report.longrepr = f"skipped, and CI allows no skip: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped, and CI allows no skip: {report.longrepr}"
    return report
