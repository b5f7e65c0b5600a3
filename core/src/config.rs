//! The environment as configuration: every variable read, checked, or refused by name.
