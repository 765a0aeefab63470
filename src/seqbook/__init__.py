"""The package behind the book: sequence models written out, and the checks that they are right.

Each module is named after its concept and imports only what lies below it:
``data`` and ``vocabulary`` at the bottom, then ``dependence``, ``markov``, ``autoregressive``
and ``hidden_markov``, then ``training`` and ``metrics``; ``claims`` and ``plots`` are for pages.
"""

__version__ = "0.1.0"
