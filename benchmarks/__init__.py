"""Makes reports: stages, recall, the published graph as baseline."""
