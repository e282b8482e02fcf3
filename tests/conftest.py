"""What holds for every test and for the processes that tests begin."""

from __future__ import annotations

import os

# Read when numpy and torch are first imported. There are as many workers as cores: a second thread in each only waits
# for the other, and makes tiny products a hundred times slower on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# One small graph is compiled: processes that wait for more, each with an import of torch, cost more than they save.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
# Ray's workers give way to everything else (niceness 15), and then wait minutes beside tests that compute.
os.environ.setdefault("RAY_worker_niceness", "0")
