"""Decisions without I/O, clock or thread: facts in, verdict out."""
