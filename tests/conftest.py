"""What all tests share: how many examples a property is tried on, and one thread for each process.

HYPOTHESIS_PROFILE=ci (default) draws the same examples every time; `full` (`make test-full`) draws many new ones.
Nothing is timed: a slow machine is no failure.
"""

import os

for pool in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):     # read when NumPy and PyTorch are first imported
    os.environ.setdefault(pool, "1")
os.environ["HF_HUB_OFFLINE"] = "1"                # no test asks the hub; `checkpoint/test_hub.py` has its own

from hypothesis import HealthCheck, settings  # noqa: E402

settings.register_profile("ci", max_examples=60, derandomize=True, deadline=None, print_blob=True,
                          suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("full", settings.get_profile("ci"), max_examples=600, derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
