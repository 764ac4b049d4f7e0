"""Ctrl-C for processes that tests start."""

import signal


def hears_ctrl_c() -> None:
    """Restore SIGINT, which a shell ignores in background processes and their children; for `preexec_fn`."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
