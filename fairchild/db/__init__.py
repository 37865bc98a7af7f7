"""The store: the only SQL and the only database drivers. No threads, no policy."""
