"""Suites: their files are read and checked here, and their grids laid out. Imports neither torch nor mlflow."""
