"""Events: what comes in, as types (`events.types`), as model columns (`events.columns`) and as rules about instalments
(`events.instalments`). Shared by `stream` and `model`; imports neither."""
