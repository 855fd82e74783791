"""What runs: transport, state, scoring, alerts, publication, the sink and the commands. Reads models through
`model.bundle` only."""
