"""`python -m fedbench` is the command `fedbench`."""

from fedbench.cli import main

main()
