"""A server of `minivl serve` in a thread of the test, on a port that the system chooses."""

import threading
import time
from contextlib import contextmanager

from minivl.cli.serve.app import application
from minivl.cli.serve.limits import ServerLimits
from minivl.cli.serve.listening import Listening, listen
from minivl.cli.serve.places import AllowedPlaces
from minivl.cli.serve.worker import Worker


@contextmanager
def serving(vlm, limits=None, places=None, key="", name="tiny", names=()):
    """The address of a server that answers while the body runs."""
    limits = limits or ServerLimits()
    with listen("127.0.0.1", 0) as opened:
        worker = Worker(vlm, limits)
        app = application(vlm, name, worker, limits, places or AllowedPlaces(), key, names)
        server = Listening(app, limits, worker.stop)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{opened.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(120)
            worker.join(120)
            assert not thread.is_alive()
