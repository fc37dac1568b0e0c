"""From bars to features: indicators, fuzzy memberships, scaling. All of it causal."""
