"""Plain `nn.Module`s that the network families share; each file is one idea."""
