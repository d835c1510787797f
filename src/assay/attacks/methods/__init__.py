"""The methods, one file for each family, and what families share."""
