"""Benchmarks: fastcnn beside the NumPy reference and PyTorch, alternating in one process, results checked first."""
