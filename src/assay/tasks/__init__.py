"""What one trial does: train, attack, measure. One module for each task: its config, its trials
and its function, which `runs.tasks` names."""
