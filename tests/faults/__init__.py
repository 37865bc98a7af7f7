"""Faults on purpose: workers killed, frozen and stopped, connections cut, servers crashed, and what must still hold."""
