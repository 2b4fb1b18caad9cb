"""`eventengine-adapter explain`: what a metric says, from whom, and what an autoscaler makes of it.

It asks the same APIs as the autoscaler, as the user who runs it, and changes
nothing. `replica_calculator` and `report` are pure; `asking` is the only I/O.
"""
