"""Workers and their lives: processes, channels, supervisors, the pool and the guardian."""
