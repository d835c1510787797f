"""The sections of an audit, one module each: what they measure and how they are judged."""
