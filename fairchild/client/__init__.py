"""The client: connect, enqueue, look up, wait, cancel, retry."""

from fairchild.client.client import Fairchild, Page, Using, get_fairchild

__all__ = ["Fairchild", "Page", "Using", "get_fairchild"]
