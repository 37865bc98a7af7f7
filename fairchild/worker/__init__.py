"""Workers: claim jobs, run them in threads, record what they came to."""

from fairchild.worker.worker import Worker
from fairchild.worker.workerpool import WorkerPool

__all__ = ["Worker", "WorkerPool"]
