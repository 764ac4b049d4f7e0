"""
Scaling policies: tidegate's own, the autoscalers in use today (rivals), a static fleet, and two bounds. One file per
family. The docstring of each policy names its simplifications.
"""
