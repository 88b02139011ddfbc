//! The restic repository format, version 2.
