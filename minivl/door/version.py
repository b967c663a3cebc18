"""The version of the package: it stands in traces, reports and the wheel."""

VERSION = "0.1.0"
