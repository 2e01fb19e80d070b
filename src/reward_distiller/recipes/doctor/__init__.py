"""`reward-distiller doctor`: what would stop a run, found without a prompt sent and without a cent spent."""
