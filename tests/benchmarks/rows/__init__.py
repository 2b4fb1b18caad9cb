"""One module per row-group, each with `measure(context) -> Table`; a module here is a group that `--only` knows."""
