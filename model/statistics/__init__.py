"""Statistics on arrays: quality measures, resampling, distributions. Must not depend on models or data sets."""
