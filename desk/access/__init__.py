"""Who asks and what they may see and do: accounts, tokens, roles, sessions, limits and the audit."""
