"""How a run is watched while it lasts, and stopped between two chunks."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .core import Core


class Meter:
    """A progress bar that appears after two seconds, on a terminal."""

    AFTER = 2.0

    def __init__(self, total: int, wanted: bool) -> None:
        self.total, self.wanted = total, wanted
        self.started, self.lock = time.monotonic(), threading.Lock()
        self.bar: Any = None
        self.reached: dict[object, int] = {}

    def __enter__(self) -> Meter:
        return self

    def __exit__(self, *_: Any) -> None:
        if self.bar is not None:
            self.bar.stop()

    def watch(self, core: Core, stop: threading.Event) -> Callable[[], bool]:
        """What a core calls between chunks: notes how far it is, tells whether to stop."""
        key = object()

        def between() -> bool:
            if self.wanted and time.monotonic() - self.started > self.AFTER:
                with self.lock:
                    self.reached[key] = core.t
                    self._show(sum(self.reached.values()))
            return stop.is_set()

        return between

    def _show(self, steps: int) -> None:
        if self.bar is None:
            from rich.console import Console
            from rich.progress import Progress

            self.bar = Progress(console=Console(stderr=True), transient=True)
            self.bar.disable = not self.bar.console.is_terminal
            self.task = self.bar.add_task("simulating", total=self.total)
            self.bar.start()
        self.bar.update(self.task, completed=steps)


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets, so that a run ends between two chunks with all it has recorded."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.signal(signal.SIGINT, lambda *_: stop.set())
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
