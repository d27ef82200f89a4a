"""What was measured, a folder per question; `python -m benchmarks.tables` writes the tables."""
