"""Small networks gain nothing from a second thread, and two tests at once would fight for it."""
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")   # before PyTorch is imported
