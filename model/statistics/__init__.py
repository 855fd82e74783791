"""Statistics on arrays: measures of quality, resampling, distributions. Knows nothing of models or data sets."""
