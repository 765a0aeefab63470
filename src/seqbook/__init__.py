"""Sequence models written out, with the data, statistics and figures of the book.

The folders, from the bottom up; each imports only from those before it:

- ``data``: real and synthetic data, vocabularies, pairs of sequences and their batches
- ``statistics``: dependence, Markov chains, autoregressive and hidden Markov models
- ``kernels``: forward and backward passes derived by hand
- ``layers``: RNN, LSTM, GRU, attention, the Transformer
- ``models``: language models, classifiers, encoder-decoders, decoding and scoring
- ``training``: the training loop, runs that can be resumed, gradients through time, profiling

``claims`` and ``plots`` serve the pages of the book; ``exercises`` holds the released exercises.
"""

__version__ = "0.1.0"
