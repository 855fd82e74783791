"""What is held about one borrower, wherever it is: to be handed out, and to be forgotten."""
