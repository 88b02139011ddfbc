//! Local folders as source, destination and target.
