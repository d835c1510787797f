"""What the study calls its recipes, and what is done to their networks."""

NATURAL, MIX, FAST, NOISY = "natural", "static mix", "Fast-AT", "N-FGSM"
SEVERAL, BALANCED, BOUNDED = "PGD-AT", "TRADES", "IBP"
SHORT = "short N-FGSM"
"""With a third of the others' passes."""


def under(name: str, what: str) -> str:
    """Return what the cell is called of a recipe's networks under an attack."""
    return f"{name}, {what}"
