"""What every part may use: errors, files, progress, the environment."""
