"""The adapter's CA and serving certificate: issuing them, deciding when to rotate, and judging what others issue. Pure.

Time comes as an argument, keys and random numbers from `cryptography`. Secrets are read and
written elsewhere (`clients/certificate_secrets.py`). No private key is ever logged.
"""
