"""Other frameworks. Each optional library is imported only in the module named after it."""
