"""Dead letters as an operator handles them: found, counted, shown, and sent back to their input topics."""
