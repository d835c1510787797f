"""What people bring: one loader per kind of model, in `registry`."""
