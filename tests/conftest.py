"""Small networks gain nothing from a second thread, and two tests at once would fight for it.

Signals do what they do in a terminal: whoever starts the tests in the background has SIGINT ignored, nohup SIGHUP.
"""
import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")   # before PyTorch is imported
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
