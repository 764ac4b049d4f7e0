"""
Scaling policies: tidegate's own, the rivals people run today, and two bounds. One file per family.

Every simplification stands in the docstring of the policy it concerns.
"""
