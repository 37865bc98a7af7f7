"""What ``fairchild demo`` runs: a review of a made-up portfolio, as a workflow of some hundred jobs.

``portfolio.py`` holds the tasks, ``show.py`` runs them and counts, ``symbols.csv`` is the data.
"""
