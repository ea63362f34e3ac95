"""The only modules that call the kernels: which of them run, how a pass is cut, threads, and work space."""
