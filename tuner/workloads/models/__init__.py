"""The models of the papers, freshly initialised by PyTorch's defaults unless a file says otherwise."""
