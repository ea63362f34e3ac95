"""Data that are read in pieces: kinds of files, a first look at all pieces, and what runs on a cluster's workers."""
