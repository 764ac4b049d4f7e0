"""
Values that the packages pass to each other.

Question: what are the things this product talks about?
Enters:   nothing. Leaves: frozen dataclasses, validated when made.
May import: units, errors, the standard library.
"""
