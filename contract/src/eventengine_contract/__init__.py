"""What engine, operator and adapter agree on. The one package that the other three share."""
