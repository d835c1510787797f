"""The methods, a family each."""
