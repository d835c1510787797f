"""What every family speaks. Import from the modules: `core` itself imports nothing, so that a
torch-free part of it stays torch-free."""
