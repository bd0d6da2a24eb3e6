"""Imported by a worker of a test: from here on this process has no POSIX modules, as on Windows."""

import sys

MODULES = ("fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty")

sys.modules["resource"] = None  # type: ignore[assignment]
