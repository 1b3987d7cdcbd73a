"""Optical flow: how it is stored and read back, how it is computed, what the camera did."""
