"""Parts for fedbench; importing the package imports none of them."""
