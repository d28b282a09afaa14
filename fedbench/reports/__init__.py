"""What people and machines read of a suite's results: tables and JSON."""
