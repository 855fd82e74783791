"""A model in the shadow: scores what live workers score into topics of its own (`run`), and is compared (`report`)."""
