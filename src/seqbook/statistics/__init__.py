"""Statistics of sequences: dependence, Markov chains, autoregressive and hidden Markov models."""
