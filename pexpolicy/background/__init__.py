"""What plugins do between calls: refreshed data, jobs, lifespans, shared sources."""
