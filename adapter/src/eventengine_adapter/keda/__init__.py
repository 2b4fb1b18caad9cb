"""The external scaler that KEDA asks: the same samples as in the metrics APIs, over gRPC.

It decides nothing of its own: a trigger's metadata becomes a question of the
external metrics API, and what that can't answer is an error here, too. Imported
only where it is served, because gRPC costs memory.
"""
