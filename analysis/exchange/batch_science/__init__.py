"""The layout of Shallue et al.'s archive (batch_science), read and written."""
