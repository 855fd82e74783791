"""Cases: what people do about alerts, in which order, and what became of it. Knows no HTTP and no HTML."""
