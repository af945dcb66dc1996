"""Networks run in parallel; tracing excludes them."""

import threading
import time

from clrernetlm.models.tracing_lock import TracingLock


def test_tracing_waits_for_networks_and_networks_for_tracing() -> None:
    use, events = TracingLock(), []
    runs, may_end = threading.Event(), threading.Event()

    def run() -> None:
        with use.running():
            runs.set()
            may_end.wait(60)
            events.append("first")

    def trace() -> None:
        with use.tracing(), use.tracing(), use.running():
            events.append("traced")

    def run_later() -> None:
        with use.running():
            events.append("later")

    threads = [threading.Thread(target=run), threading.Thread(target=trace), threading.Thread(target=run_later)]
    threads[0].start()
    runs.wait(60)
    threads[1].start()
    while not use._waiting:
        time.sleep(0.001)
    threads[2].start()
    with_others = threading.Thread(target=lambda: events.append("alive"))
    with_others.start()
    with_others.join()
    may_end.set()
    for thread in threads:
        thread.join(60)
    assert events == ["alive", "first", "traced", "later"]


def test_networks_run_in_parallel_and_nested() -> None:
    use, together = TracingLock(), threading.Barrier(3)

    def run() -> None:
        with use.running():
            together.wait(60)
            with use.running():
                together.wait(60)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    together.wait(60)
    together.wait(60)
    for thread in threads:
        thread.join(60)


def test_an_error_releases_the_lock() -> None:
    use = TracingLock()
    for context in (use.running, use.tracing):
        try:
            with context():
                raise ValueError
        except ValueError:
            pass
    with use.tracing():
        pass
