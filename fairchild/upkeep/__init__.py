"""What keeps the store in order while workers run: rescue of dead workers' jobs, sweeps, roll-ups."""
