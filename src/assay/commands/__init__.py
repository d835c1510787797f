"""The subcommands of `assay`; each is imported only when it is called."""
