"""What every benchmark stands on: timing, reports, pages, hardware, workloads."""
