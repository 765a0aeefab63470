"""Forward and backward passes derived by hand, as autograd functions."""
