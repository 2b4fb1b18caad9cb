"""CAs and serving certificates of adapter and webhook: issuing, deciding when to rotate, judging what others issue.

Pure. Time comes as an argument, keys and random numbers from `cryptography`. Secrets are read and written elsewhere
(`handlers/certificates.py`). No private key is ever logged.
"""
